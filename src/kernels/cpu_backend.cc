#include "kernels/cpu_backend.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "kernels/attend_plan.h"
#include "kernels/biased_product.h"
#include "kernels/experts.h"
#include "kernels/kernel_table.h"
#include "kernels/kv_storage.h"
#include "kernels/memory_region.h"
#include "kernels/operation_profile.h"
#include "kernels/program_check.h"
#include "kernels/rope_table.h"
#include "kernels/unit_claims.h"
#include "kernels/weight_store.h"

namespace shoal {
namespace {

using namespace kernels;

// Under so many elementary steps the caller computes alone: waking the others costs as much.
constexpr int64_t kInlineWork = 8192;
// From so many rows of input on, products are bound by arithmetic.
constexpr int64_t kManyRows = 16;
// What the caller computes of a product before it looks at the links: one block of panels.
constexpr int64_t kUnitsBetween = 16;

class CpuBackend final : public Backend {
 public:
  CpuBackend(const KernelTable& kernels, int threads)
      : kernels_(kernels), pool_(threads, threads == usable_core_count()) {}

  std::string name() const override {
    return fmt::format("cpu {}, {} thread{}", isa_name(kernels_.isa), pool_.thread_count(),
                       pool_.thread_count() == 1 ? "" : "s");
  }
  int page_tokens() const override { return kPageTokens; }

  Status prepare(const Program& program, const BackendLimits& limits) override;
  Status load(WeightId weight, const TensorSource& source) override;
  Status allocate_kv(KvType type, std::span<const int64_t> pages) override;
  Status run(size_t segment, const StepBatch& batch,
             const std::function<void()>& meanwhile) override;
  std::span<float> rows(BufferId buffer, int64_t first, int64_t count) override;
  BackendMemory memory() const override;
  void set_profile(bool on) override;
  std::vector<ProfiledPart> profile() const override { return profile_.parts(); }

 private:
  // --- setting up ---
  int64_t capacity(BufferId id) const {
    return program_.buffers[static_cast<size_t>(id)].rows == Rows::kAll ? limits_.rows
                                                                        : limits_.wanted_rows;
  }
  Status allocate_activations();
  Status allocate_scratch();

  // --- what operations refer to ---
  int64_t width(BufferId id) const { return program_.buffers[static_cast<size_t>(id)].width; }
  // Where the rows of the part that runs begin.
  float* buffer(BufferId id) const { return part_[static_cast<size_t>(id)]; }
  float* row(BufferId id, int64_t index) const { return buffer(id) + index * width(id); }
  const PackedMatrices& stack(WeightId id) const { return stacks_[static_cast<size_t>(id)]; }
  const float* floats(const std::optional<WeightId>& id) const {
    return id ? vector(*id).data() : nullptr;
  }
  const PackedMatrix& matrix(WeightId id) const { return matrices_[static_cast<size_t>(id)]; }
  const std::vector<float>& vector(WeightId id) const { return vectors_[static_cast<size_t>(id)]; }
  int64_t row_count(BufferId id, const StepBatch& batch) const {
    const bool all = program_.buffers[static_cast<size_t>(id)].rows == Rows::kAll;
    return static_cast<int64_t>(all ? batch.tokens.size() : batch.wanted.size());
  }

  // Whether this thread calls `meanwhile` now and then.
  bool looks_up(int thread) const { return thread == 0 && *meanwhile_; }

  // job(begin, end, thread) over a static partition of [0, items).
  template <typename Job>
  void split(int64_t items, int64_t work, const Job& job) {
    const int64_t threads = pool_.thread_count();
    if (items == 0) return;
    if (threads == 1 || work < kInlineWork) return job(int64_t{0}, items, 0);
    const auto part = [&](int index) {
      const int64_t begin = items * index / threads, end = items * (index + 1) / threads;
      if (begin < end) job(begin, end, index);
    };
    pool_.run(std::ref(part));
  }

  // --- operations ---
  void turn_to_part(const StepBatch& batch);
  Status run_timed(const Operation& operation, const StepBatch& batch);
  Status execute(const Embed& op, const StepBatch& batch);
  Status execute(const RmsNorm& op, const StepBatch& batch);
  Status execute(const SumSquares& op, const StepBatch& batch);
  Status execute(const ScaleBySquares& op, const StepBatch& batch);
  Status execute(const Project& op, const StepBatch& batch);
  Status execute(const ProjectParts& op, const StepBatch& batch);
  Status execute(const CopyParts& op, const StepBatch& batch);
  Status execute(const Rotate& op, const StepBatch& batch);
  Status execute(const GrowByPosition& op, const StepBatch& batch);
  Status execute(const Attend& op, const StepBatch& batch);
  Status execute(const Gate& op, const StepBatch& batch);
  Status execute(const Experts& op, const StepBatch& batch);
  Status execute(const Add& op, const StepBatch& batch);
  Status execute(const Scale& op, const StepBatch& batch);
  Status execute(const SoftCap& op, const StepBatch& batch);
  Status execute(const SigmoidScale& op, const StepBatch& batch);
  Status execute(const Gather& op, const StepBatch& batch);

  InputRows project_input(const Project& op, int64_t rows);
  void project(const Project::Output& output, const InputRows& input, int64_t count, int64_t begin,
               int64_t end, int thread);
  uint8_t* product_scratch(int thread) const {
    return product_scratch_.data() + thread * kProductScratchBytes;
  }
  void append(const Attend& op, const StepBatch& batch, int64_t row, int head);
  AttendTask attend_task(const Attend& op, const StepBatch& batch, const AttendBlock& block,
                         int thread) const;
  void attend_unit(const Attend& op, const StepBatch& batch, const AttendUnit& unit,
                   const AttendUnit* next, int thread);

  const KernelTable& kernels_;
  ThreadPool pool_;
  bool prepared_ = false;
  Program program_;
  BackendLimits limits_{};
  std::vector<WeightShape> shapes_;

  std::vector<PackedMatrix> matrices_;       // by weight; empty for others
  std::vector<PackedMatrices> stacks_;       // likewise
  std::vector<std::vector<float>> vectors_;  // likewise
  std::vector<float> ones_;                  // for norms without weights
  std::vector<bool> loaded_;
  size_t missing_count_ = 0;

  MemoryRegion activations_;
  std::vector<float*> buffers_;
  std::vector<float*> part_;  // the same, further on by the rows before the part that runs
  const std::function<void()>* meanwhile_ = nullptr;  // of the run under way
  MemoryRegion codes_;                                // quantised input of the Project that runs
  MemoryRegion blocks_;
  MemoryRegion product_scratch_;  // kProductScratchBytes of each thread
  AttendPlan attend_plan_;
  MemoryRegion attend_scratch_;
  int64_t attend_scratch_floats_ = 0;  // of one thread
  MemoryRegion attend_parts_;
  int64_t attend_part_floats_ = 0;
  ExpertRunner experts_;
  std::vector<RopeTable> ropes_;
  std::vector<KvStorage> kv_;
  OperationProfile profile_;
};

// --- setting up ---

Status CpuBackend::prepare(const Program& program, const BackendLimits& limits) {
  if (prepared_) return fail(ErrorCode::kInvalidArgument, "the backend already has a program");
  SHOAL_ASSIGN(shapes_, check_program(program, limits));
  program_ = program;
  limits_ = limits;
  SHOAL_TRY(allocate_activations());
  SHOAL_TRY(allocate_scratch());
  matrices_.resize(program_.weights.size());
  stacks_.resize(program_.weights.size());
  vectors_.resize(program_.weights.size());
  loaded_.assign(program_.weights.size(), false);
  missing_count_ = loaded_.size();
  for (const RopeSpec& spec : program_.ropes) ropes_.emplace_back(spec);
  kv_.resize(program_.cache_groups.size());
  prepared_ = true;
  return {};
}

Status CpuBackend::allocate_activations() {
  // Each buffer begins on a cache line of its own.
  uint64_t total = 0;
  std::vector<uint64_t> offsets;
  for (size_t i = 0; i < program_.buffers.size(); ++i) {
    offsets.push_back(total);
    const auto id = static_cast<BufferId>(i);
    total +=
        (static_cast<uint64_t>(capacity(id)) * static_cast<uint64_t>(width(id)) * 4 + 63) / 64 * 64;
  }
  SHOAL_ASSIGN(activations_,
               MemoryRegion::create(total, fmt::format("a step of {} rows", limits_.rows)));
  for (const uint64_t offset : offsets)
    buffers_.push_back(reinterpret_cast<float*>(activations_.data() + offset));
  part_ = buffers_;
  return {};
}

Status CpuBackend::allocate_scratch() {
  int64_t blocks = 0, expert_width = 0, expert_hidden = 0, ones = 0;
  int used = 0;
  for (const Segment& segment : program_.segments) {
    for (const Operation& operation : segment.operations) {
      if (const auto* project = std::get_if<Project>(&operation)) {
        blocks = std::max(blocks, capacity(project->in) * block_stride(width(project->in)));
      } else if (const auto* parts = std::get_if<ProjectParts>(&operation)) {
        blocks = std::max(blocks, capacity(parts->in) * (width(parts->in) / parts->in_stride) *
                                      block_stride(parts->in_width));
      } else if (const auto* norm = std::get_if<RmsNorm>(&operation)) {
        if (!norm->weight) ones = std::max(ones, width(norm->in) / norm->parts);
      } else if (const auto* experts = std::get_if<Experts>(&operation)) {
        used = std::max(used, experts->routing.used);
        expert_width = std::max(expert_width, experts->width);
        expert_hidden = std::max(expert_hidden, width(experts->in));
      } else if (const auto* attend = std::get_if<Attend>(&operation)) {
        const CacheGroupSpec& group = program_.cache_groups[static_cast<size_t>(attend->group)];
        attend_scratch_floats_ =
            std::max(attend_scratch_floats_,
                     attend_scratch_floats(group.head_dimension, group.value_dimension()));
        attend_part_floats_ =
            std::max(attend_part_floats_,
                     AttendPlan::most_part_floats(group, attend->query_to_kv, limits_.rows,
                                                  limits_.positions, pool_.thread_count()));
      }
    }
  }
  if (used > 0) {
    SHOAL_ASSIGN(experts_, ExpertRunner::create(limits_.rows, used, expert_hidden, expert_width));
  }
  ones_.assign(static_cast<size_t>(ones), 1.0f);
  const auto block_count = static_cast<uint64_t>(blocks);
  SHOAL_ASSIGN(codes_, MemoryRegion::create(block_count * kCodeBytes, "scratch memory"));
  SHOAL_ASSIGN(blocks_, MemoryRegion::create(block_count * sizeof(BlockSums), "scratch memory"));
  SHOAL_ASSIGN(product_scratch_, MemoryRegion::create(static_cast<uint64_t>(kProductScratchBytes *
                                                                            pool_.thread_count()),
                                                      "scratch memory"));
  const auto attend_floats = static_cast<uint64_t>(attend_scratch_floats_ * pool_.thread_count());
  SHOAL_ASSIGN(attend_scratch_, MemoryRegion::create(attend_floats * 4, "scratch memory"));
  const auto part_floats = static_cast<uint64_t>(attend_part_floats_);
  SHOAL_ASSIGN(attend_parts_, MemoryRegion::create(part_floats * 4, "scratch memory"));
  return {};
}

Status CpuBackend::load(WeightId weight, const TensorSource& source) {
  const auto index = static_cast<size_t>(weight);
  if (!prepared_ || weight < 0 || index >= program_.weights.size()) {
    return fail(ErrorCode::kInvalidArgument, "the program has no weight {} for tensor '{}'", weight,
                source.name);
  }
  if (loaded_[index]) {
    return fail(ErrorCode::kInvalidArgument, "weight {} ('{}') is already loaded", weight,
                source.name);
  }
  SHOAL_TRY(check_source(kernels_, source));
  const WeightSpec& spec = program_.weights[index];
  if (spec.use == WeightUse::kVector) {
    SHOAL_ASSIGN(vectors_[index], load_vector(source, spec.cut, shapes_[index]));
  } else if (spec.use == WeightUse::kMatrices) {
    SHOAL_ASSIGN(stacks_[index], pack_matrices(kernels_, pool_, source, spec, shapes_[index]));
  } else {
    SHOAL_ASSIGN(matrices_[index], pack_matrix(kernels_, pool_, source, spec.cut, shapes_[index]));
  }
  loaded_[index] = true;
  --missing_count_;
  return {};
}

Status CpuBackend::allocate_kv(KvType type, std::span<const int64_t> pages) {
  if (!prepared_) return fail(ErrorCode::kInvalidArgument, "the backend has no program yet");
  if (pages.size() != kv_.size()) {
    return fail(ErrorCode::kInvalidArgument, "pages for {} cache groups; the program has {}",
                pages.size(), kv_.size());
  }
  for (size_t i = 0; i < kv_.size(); ++i) {
    SHOAL_ASSIGN(kv_[i], KvStorage::create(program_.cache_groups[i], type, pages[i]));
  }
  return {};
}

std::span<float> CpuBackend::rows(BufferId id, int64_t first, int64_t count) {
  SHOAL_CHECK(prepared_ && id >= 0 && static_cast<size_t>(id) < buffers_.size());
  SHOAL_CHECK(first >= 0 && count >= 0 && first + count <= capacity(id));
  return {buffers_[static_cast<size_t>(id)] + first * width(id),
          static_cast<size_t>(count * width(id))};
}

BackendMemory CpuBackend::memory() const {
  BackendMemory memory;
  for (const PackedMatrix& matrix : matrices_) memory.weight_bytes += matrix.region.size();
  for (const PackedMatrices& stack : stacks_) memory.weight_bytes += stack.region.size();
  for (const std::vector<float>& values : vectors_)
    memory.weight_bytes += values.size() * sizeof(float);
  memory.activation_bytes = activations_.size() + codes_.size() + blocks_.size() +
                            product_scratch_.size() + attend_scratch_.size() +
                            attend_parts_.size() + experts_.bytes();
  for (const KvStorage& storage : kv_) memory.kv_bytes += storage.bytes();
  return memory;
}

void CpuBackend::set_profile(bool on) {
  if (!on) return profile_.stop();
  std::vector<uint64_t> weights(matrices_.size()), positions;
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] =
        matrices_[i].region.size() + stacks_[i].region.size() + vectors_[i].size() * sizeof(float);
  }
  for (const KvStorage& storage : kv_)
    positions.push_back(static_cast<uint64_t>(storage.position_bytes()));
  profile_.start({weights, positions});
}

// --- operations ---

Status CpuBackend::run(size_t segment, const StepBatch& batch,
                       const std::function<void()>& meanwhile) {
  if (!prepared_ || segment >= program_.segments.size()) {
    return fail(ErrorCode::kInvalidArgument, "the program has no segment {}", segment);
  }
  if (missing_count_ > 0) {
    return fail(ErrorCode::kInvalidArgument, "{} of the program's {} weights are not loaded",
                missing_count_, loaded_.size());
  }
  SHOAL_TRY(check_batch(program_, limits_, batch));
  turn_to_part(batch);
  meanwhile_ = &meanwhile;
  for (const Operation& operation : program_.segments[segment].operations) {
    if (looks_up(0)) (*meanwhile_)();
    if (profile_.on()) {
      SHOAL_TRY(run_timed(operation, batch));
    } else {
      SHOAL_TRY(std::visit([&](const auto& op) { return execute(op, batch); }, operation));
    }
  }
  return {};
}

void CpuBackend::turn_to_part(const StepBatch& batch) {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const BufferSpec& spec = program_.buffers[i];
    const int64_t first = spec.rows == Rows::kAll ? batch.first_row : batch.first_wanted;
    part_[i] = buffers_[i] + first * spec.width;
  }
}

Status CpuBackend::run_timed(const Operation& operation, const StepBatch& batch) {
  const auto start = Clock::now();
  SHOAL_TRY(std::visit([&](const auto& op) { return execute(op, batch); }, operation));
  profile_.add(program_, operation, batch, experts_.experts_read(), seconds_since(start));
  return {};
}

Status CpuBackend::execute(const Embed& op, const StepBatch& batch) {
  const MatrixView& table = matrix(op.table).view;
  const auto count = static_cast<int64_t>(batch.tokens.size());
  split(count, count * width(op.out) * 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t index = batch.tokens[static_cast<size_t>(r)] - op.first_token;
      if (index >= 0 && index < table.rows) {
        kernels_.unpack_row(table, index, row(op.out, r));
        if (op.scale == 1) continue;
        for (int64_t c = 0; c < width(op.out); ++c) row(op.out, r)[c] *= op.scale;
      } else {
        std::fill_n(row(op.out, r), width(op.out), 0.0f);
      }
    }
  });
  return {};
}

Status CpuBackend::execute(const RmsNorm& op, const StepBatch& batch) {
  const int64_t count = row_count(op.in, batch), stride = width(op.in) / op.parts;
  const int64_t columns = op.width > 0 ? op.width : stride;
  const float* weight = op.weight ? vector(*op.weight).data() : ones_.data();
  split(count * op.parts, count * width(op.in), [&](int64_t begin, int64_t end, int) {
    for (int64_t part = begin; part < end; ++part) {
      kernels_.rms_norm(buffer(op.in) + part * stride, weight, columns, op.epsilon,
                        buffer(op.out) + part * stride);
    }
  });
  return {};
}

Status CpuBackend::execute(const SumSquares& op, const StepBatch& batch) {
  for (int64_t r = 0; r < row_count(op.in, batch); ++r) {
    double sum = 0;
    for (int64_t c = op.elements.begin; c < op.elements.end; ++c) {
      const auto value = static_cast<double>(row(op.in, r)[c]);
      sum += value * value;
    }
    row(op.out, r)[op.column] = static_cast<float>(sum);
  }
  return {};
}

Status CpuBackend::execute(const ScaleBySquares& op, const StepBatch& batch) {
  const float* weight = vector(op.weight).data();
  for (int64_t r = 0; r < row_count(op.data, batch); ++r) {
    const float mean = row(op.squares, r)[op.column] / static_cast<float>(op.count);
    const float scale = 1 / std::sqrt(mean + op.epsilon);
    for (int64_t c = 0; c < width(op.data); ++c) row(op.data, r)[c] *= scale * weight[c];
  }
  return {};
}

// The rows that a Project reads, quantised once for all of its outputs.
InputRows CpuBackend::project_input(const Project& op, int64_t rows) {
  const int64_t columns = width(op.in), stride = block_stride(columns);
  auto* codes = reinterpret_cast<int8_t*>(codes_.data());
  auto* blocks = reinterpret_cast<BlockSums*>(blocks_.data());
  const bool apart = takes_apart(kernels_, rows);
  const bool wanted = std::ranges::any_of(op.outputs, [&](const Project::Output& output) {
    return kernels_.takes_codes(matrix(output.weight).view.type);
  });
  if (wanted) {
    const int64_t per_row = columns / kSubBlock;  // exact: such types have whole blocks of 32
    split(rows * per_row, rows * columns, [&](int64_t begin, int64_t end, int) {
      while (begin < end) {
        const int64_t r = begin / per_row, first = begin % per_row;
        const int64_t count = std::min(end - begin, per_row - first);
        const int64_t at = r * stride + first;
        quantise_rows(kernels_, apart, row(op.in, r) + first * kSubBlock, count * kSubBlock,
                      codes + at * kCodeBytes, blocks + at);
        begin += count;
      }
    });
  }
  return {buffer(op.in), columns, codes, blocks, stride, apart};
}

Status CpuBackend::execute(const Project& op, const StepBatch& batch) {
  const int64_t count = row_count(op.in, batch);
  if (count == 0) return {};
  const InputRows input = project_input(op, count);
  int64_t units = 0;  // of all outputs, one after the other
  for (const Project::Output& output : op.outputs) units += matrix(output.weight).unit_count();
  const int64_t threads = pool_.thread_count();
  // A piece is long enough for a stream from memory to pay, or for a block of panels.
  const int64_t piece = std::max<int64_t>(count < kManyRows ? 4 : 16, units / (32 * threads));
  UnitClaims claims(units, piece, threads);
  const auto job = [&](int index) {
    claims.take(index, [&](int64_t begin, int64_t end) {
      for (const Project::Output& output : op.outputs) {
        const int64_t held = matrix(output.weight).unit_count();
        if (begin < held && end > 0)
          project(output, input, count, std::max<int64_t>(begin, 0), std::min(end, held), index);
        begin -= held;
        end -= held;
      }
    });
  };
  pool_.run(std::ref(job));
  return {};
}

// Units [begin, end) of one output, for all rows.
void CpuBackend::project(const Project::Output& output, const InputRows& input, int64_t count,
                         int64_t begin, int64_t end, int thread) {
  const MatrixView& weight = matrix(output.weight).view;
  const bool looks = looks_up(thread);
  for (int64_t at = begin; at < end;) {
    const int64_t stop = looks ? std::min(at + kUnitsBetween, end) : end;
    biased_product(kernels_, weight, floats(output.bias), input, count, at, stop,
                   product_scratch(thread), buffer(output.out), width(output.out));
    at = stop;
    if (looks) (*meanwhile_)();
  }
}

// Every part has codes of its own.
Status CpuBackend::execute(const ProjectParts& op, const StepBatch& batch) {
  const int64_t count = row_count(op.in, batch);
  const PackedMatrices& weights = stack(op.weight);
  const auto parts = static_cast<int64_t>(weights.views.size());
  const int64_t stride = block_stride(op.in_width);
  auto* codes = reinterpret_cast<int8_t*>(codes_.data());
  auto* blocks = reinterpret_cast<BlockSums*>(blocks_.data());
  const ElementType type = weights.views.front().type;
  const bool apart = takes_apart(kernels_, count);
  if (kernels_.takes_codes(type)) {
    split(count * parts, count * width(op.in), [&](int64_t begin, int64_t end, int) {
      for (int64_t part = begin; part < end; ++part) {
        quantise_rows(kernels_, apart, buffer(op.in) + part * op.in_stride, op.in_width,
                      codes + part * stride * kCodeBytes, blocks + part * stride);
      }
    });
  }
  const int64_t units = weights.unit_count();
  split(parts, count * width(op.out) * op.in_width, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t part = begin; part < end; ++part) {
      const InputRows input{buffer(op.in) + part * op.in_stride,
                            width(op.in),
                            codes + part * stride * kCodeBytes,
                            blocks + part * stride,
                            parts * stride,
                            apart};
      kernels_.product(type)(weights.views[static_cast<size_t>(part)], input, count, 0, units,
                             product_scratch(thread), buffer(op.out) + part * op.out_stride,
                             width(op.out));
    }
  });
  return {};
}

Status CpuBackend::execute(const CopyParts& op, const StepBatch& batch) {
  for (int64_t r = 0; r < row_count(op.in, batch); ++r) {
    for (int part = 0; part < op.parts; ++part) {
      std::copy_n(row(op.in, r) + part * op.in_stride + op.in_offset, op.width,
                  row(op.out, r) + part * op.out_stride + op.out_offset);
    }
  }
  return {};
}

Status CpuBackend::execute(const GrowByPosition& op, const StepBatch& batch) {
  for (int64_t r = 0; r < row_count(op.data, batch); ++r) {
    const int64_t periods = (batch.positions[static_cast<size_t>(r)] + op.offset) / op.period;
    const float factor =
        1 + op.growth * static_cast<float>(std::log1p(static_cast<double>(periods)));
    for (int64_t c = 0; c < width(op.data); ++c) row(op.data, r)[c] *= factor;
  }
  return {};
}

Status CpuBackend::execute(const Rotate& op, const StepBatch& batch) {
  RopeTable& rope = ropes_[static_cast<size_t>(op.rope)];
  const RopeSpec& spec = rope.spec();
  std::span<const float> factors;
  if (spec.frequency_factors) factors = vector(*spec.frequency_factors);
  rope.turn_to(batch.positions, factors, batch.first_row);
  const int64_t count = row_count(op.data, batch);
  split(count, count * width(op.data), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      for (int h = 0; h < op.heads; ++h) {
        rotate_head(row(op.data, r) + h * op.head_dimension + op.offset, spec.dimensions,
                    spec.interleaved, rope.cosines(batch.first_row + r),
                    rope.sines(batch.first_row + r));
      }
    }
  });
  return {};
}

void CpuBackend::append(const Attend& op, const StepBatch& batch, int64_t r, int head) {
  const CacheGroupSpec& group = program_.cache_groups[static_cast<size_t>(op.group)];
  const KvStorage& kv = kv_[static_cast<size_t>(op.group)];
  const auto index = static_cast<size_t>(r);
  const int64_t position = batch.positions[index];
  const auto pages =
      batch.page_tables[static_cast<size_t>(op.group)][static_cast<size_t>(batch.sequences[index])];
  const int64_t page = pages[static_cast<size_t>(position / kPageTokens)];
  const int64_t offset = position % kPageTokens;
  const int64_t first = int64_t{head} * group.head_dimension;
  kv.store_key(kernels_, row(op.k, r) + first, kv.keys(op.layer, page, head), offset);
  if (!kv.keeps_values()) return;
  kv.store_value(kernels_, row(op.v, r) + first, kv.values(op.layer, page, head), offset);
}

AttendTask CpuBackend::attend_task(const Attend& op, const StepBatch& batch,
                                   const AttendBlock& block, int thread) const {
  const CacheGroupSpec& group = program_.cache_groups[static_cast<size_t>(op.group)];
  const KvStorage& kv = kv_[static_cast<size_t>(op.group)];
  const auto index = static_cast<size_t>(block.row);
  const auto pages =
      batch.page_tables[static_cast<size_t>(op.group)][static_cast<size_t>(batch.sequences[index])];
  const int kv_head = op.query_to_kv[static_cast<size_t>(block.head)];
  return {
      .q = row(op.q, block.row) + block.head * group.head_dimension,
      .q_stride = width(op.q),
      .k = kv.keys(op.layer, 0, kv_head),
      .v = kv.keeps_values() ? kv.values(op.layer, 0, kv_head) : nullptr,
      .page_stride_bytes = kv.page_stride_bytes(),
      .pages = pages.data(),
      .type = kv.type(),
      .rows = block.rows,
      .heads = block.heads,
      .head_dimension = group.head_dimension,
      .value_dimension = group.value_dimension(),
      .position = batch.positions[index],
      .window = group.chunked ? 0 : group.window,
      .start = group.chunked ? first_attended(group, batch.positions[index]) : 0,
      .scale = op.scale,
      .soft_cap = op.soft_cap,
      .sinks = op.sinks ? vector(*op.sinks).data() + block.head : nullptr,
      .scratch = reinterpret_cast<float*>(attend_scratch_.data()) + thread * attend_scratch_floats_,
      .out = row(op.out, block.row) + block.head * group.value_dimension(),
      .out_stride = width(op.out)};
}

void CpuBackend::attend_unit(const Attend& op, const StepBatch& batch, const AttendUnit& unit,
                             const AttendUnit* next, int thread) {
  const auto block_of = [&](const AttendUnit& of) -> const AttendBlock& {
    return attend_plan_.blocks()[static_cast<size_t>(of.block)];
  };
  const AttendBlock& block = block_of(unit);
  AttendTask task = attend_task(op, batch, block, thread);
  if (next != nullptr) {
    const AttendTask after = attend_task(op, batch, block_of(*next), thread);
    const int64_t span = block_of(*next).first_span + std::max<int64_t>(next->span, 0);
    const int64_t page = std::max(first_page(after), span * (kSpanTokens / kPageTokens));
    task.next = after.k + after.pages[page] * after.page_stride_bytes;
  }
  if (unit.span < 0) return kernels_.attend(task);
  auto* parts = reinterpret_cast<float*>(attend_parts_.data()) + block.part;
  const int64_t floats = task.rows * task.heads * part_floats(task.value_dimension);
  kernels_.attend_span(task, block.first_span + unit.span, parts + unit.span * floats);
}

Status CpuBackend::execute(const Attend& op, const StepBatch& batch) {
  const CacheGroupSpec& group = program_.cache_groups[static_cast<size_t>(op.group)];
  SHOAL_TRY(check_pages(group, static_cast<size_t>(op.group),
                        kv_[static_cast<size_t>(op.group)].pages(), batch));
  const auto count = static_cast<int64_t>(batch.tokens.size());
  if (count == 0) return {};
  if (op.appends) {
    split(count * group.kv_heads, count * width(op.k) * 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        append(op, batch, i / group.kv_heads, static_cast<int>(i % group.kv_heads));
    });
  }
  attend_plan_.make(group, op.query_to_kv, batch, pool_.thread_count(), attend_part_floats_);
  const auto units = attend_plan_.units();
  // Threads take units as they come to them, one ahead, so that its first page is on its way.
  std::atomic<size_t> taken = 0;
  const auto gather = [&](int thread) {
    for (size_t mine = taken++; mine < units.size();) {
      const size_t after = taken++;
      attend_unit(op, batch, units[mine], after < units.size() ? &units[after] : nullptr, thread);
      if (looks_up(thread)) (*meanwhile_)();
      mine = after;
    }
  };
  pool_.run(std::ref(gather));
  if (!attend_plan_.has_parts()) return {};
  const auto blocks = attend_plan_.blocks();
  const auto join = [&](int thread) {
    for (size_t i = static_cast<size_t>(thread); i < blocks.size();
         i += static_cast<size_t>(pool_.thread_count())) {
      if (blocks[i].part < 0) continue;
      kernels_.attend_join(attend_task(op, batch, blocks[i], thread),
                           reinterpret_cast<float*>(attend_parts_.data()) + blocks[i].part,
                           blocks[i].span_count);
    }
  };
  pool_.run(std::ref(join));
  return {};
}

Status CpuBackend::execute(const Gate& op, const StepBatch& batch) {
  const GateKind kind = gate_kind(op.activation);
  const int64_t count = row_count(op.gate, batch) * width(op.gate);
  split(count, count * 4, [&](int64_t begin, int64_t end, int) {
    kernels_.gate(kind, buffer(op.gate) + begin, buffer(op.up) + begin, end - begin,
                  buffer(op.out) + begin);
  });
  return {};
}

Status CpuBackend::execute(const Experts& op, const StepBatch& batch) {
  experts_.run(kernels_, pool_,
               {.op = op,
                .gate = stack(op.gate),
                .up = stack(op.up),
                .down = stack(op.down),
                .gate_bias = floats(op.gate_bias),
                .up_bias = floats(op.up_bias),
                .down_bias = floats(op.down_bias),
                .selection_bias = floats(op.routing.selection_bias),
                .expert_scales = floats(op.routing.expert_scales),
                .expert_count = width(op.router),
                .rows = row_count(op.in, batch),
                .hidden = width(op.in),
                .in = buffer(op.in),
                .router = buffer(op.router),
                .out = buffer(op.out),
                .scratch = product_scratch(0),
                .meanwhile = *meanwhile_});
  return {};
}

Status CpuBackend::execute(const Scale& op, const StepBatch& batch) {
  const int64_t count = row_count(op.data, batch) * width(op.data);
  const float factor = op.weight ? op.factor * vector(*op.weight).front() : op.factor;
  for (int64_t i = 0; i < count; ++i) buffer(op.data)[i] *= factor;
  return {};
}

Status CpuBackend::execute(const SoftCap& op, const StepBatch& batch) {
  const int64_t count = row_count(op.data, batch) * width(op.data);
  split(count, count * 16, [&](int64_t begin, int64_t end, int) {
    float* data = buffer(op.data);
    for (int64_t i = begin; i < end; ++i) data[i] = op.cap * std::tanh(data[i] / op.cap);
  });
  return {};
}

Status CpuBackend::execute(const SigmoidScale& op, const StepBatch& batch) {
  for (int64_t r = 0; r < row_count(op.data, batch); ++r) {
    const float share = 1 / (1 + std::exp(-*row(op.gate, r)));
    for (int64_t c = 0; c < width(op.data); ++c) row(op.data, r)[c] *= share;
  }
  return {};
}

Status CpuBackend::execute(const Add& op, const StepBatch& batch) {
  const int64_t count = row_count(op.in, batch) * width(op.in);
  split(count, count / 4, [&](int64_t begin, int64_t end, int) {
    const float* in = buffer(op.in);
    float* target = buffer(op.target);
    for (int64_t i = begin; i < end; ++i) target[i] += op.scale * in[i];
  });
  return {};
}

Status CpuBackend::execute(const Gather& op, const StepBatch& batch) {
  for (size_t i = 0; i < batch.wanted.size(); ++i) {
    std::copy_n(row(op.in, batch.wanted[i]), width(op.in), row(op.out, static_cast<int64_t>(i)));
  }
  return {};
}

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(Isa isa, int threads) {
  const KernelTable* table = kernels_for(isa);
  SHOAL_CHECK(table != nullptr && machine_has(isa) && threads >= 1);
  return std::make_unique<CpuBackend>(*table, threads);
}

}  // namespace shoal
