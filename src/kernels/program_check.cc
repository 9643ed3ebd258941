#include "kernels/program_check.h"

#include <algorithm>
#include <cmath>

#include "kernels/kernel_table.h"

namespace shoal::kernels {
namespace {

// Far over any model, far under where sizes in bytes overflow.
constexpr int64_t kMaxWidth = int64_t{1} << 28;
constexpr int64_t kMaxRows = int64_t{1} << 24;
constexpr int64_t kMaxPositions = int64_t{1} << 30;

template <typename... Args>
Status refuse(fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorCode::kInvalidArgument, format, std::forward<Args>(args)...);
}

const char* words(WeightUse use) {
  return use == WeightUse::kVector ? "vector" : use == WeightUse::kMatrix ? "matrix" : "stack";
}

class Checker {
 public:
  explicit Checker(const Program& program) : program_(program), shapes_(program.weights.size()) {}

  Status check() {
    SHOAL_TRY(check_tables());
    for (size_t s = 0; s < program_.segments.size(); ++s) {
      const Segment& segment = program_.segments[s];
      for (size_t i = 0; i < segment.operations.size(); ++i) {
        const Status status =
            std::visit([&](const auto& op) { return check_op(op); }, segment.operations[i]);
        if (!status) {
          return std::unexpected(status.error().within(
              fmt::format("operation {} of segment {} of the program", i, s)));
        }
      }
      if (segment.all_reduce) SHOAL_TRY(buffer(*segment.all_reduce, "the all-reduce of a segment"));
    }
    return check_results();
  }
  std::vector<WeightShape> shapes() && { return std::move(shapes_); }

 private:
  Status check_tables() {
    for (size_t i = 0; i < program_.buffers.size(); ++i) {
      const BufferSpec& spec = program_.buffers[i];
      if (spec.width < 1 || spec.width > kMaxWidth) {
        return refuse("buffer {} ('{}') of the program is {} wide", i, spec.name, spec.width);
      }
    }
    for (size_t i = 0; i < program_.ropes.size(); ++i) SHOAL_TRY(check_rope(i));
    for (size_t i = 0; i < program_.cache_groups.size(); ++i) {
      const CacheGroupSpec& group = program_.cache_groups[i];
      if (group.layer_count < 0 || group.kv_heads < 1 || group.head_dimension < 1 ||
          group.window < (group.chunked ? 1 : 0) || group.value_in_key < 0 ||
          group.value_in_key > group.head_dimension ||
          width_of(group.kv_heads, group.head_dimension) > kMaxWidth) {
        return refuse("cache group {} of the program has {} layers of {} heads of {}, window {}", i,
                      group.layer_count, group.kv_heads, group.head_dimension, group.window);
      }
    }
    return {};
  }

  Status check_rope(size_t index) {
    const RopeSpec& rope = program_.ropes[index];
    if (rope.dimensions < 2 || rope.dimensions % 2 != 0 || !(rope.base > 0) ||
        !std::isfinite(rope.base) || !std::isfinite(rope.position_scale) ||
        !std::isfinite(rope.amplitude) ||
        (!rope.frequency_scales.empty() &&
         rope.frequency_scales.size() != static_cast<size_t>(rope.dimensions / 2)) ||
        !std::ranges::all_of(rope.frequency_scales, [](double x) { return std::isfinite(x); })) {
      return refuse("rope {} of the program turns {} dimensions with base {}", index,
                    rope.dimensions, rope.base);
    }
    return rope.frequency_factors ? vector(*rope.frequency_factors, rope.dimensions / 2) : Status{};
  }

  Status check_results() {
    if (program_.received) {
      SHOAL_TRY(buffer(*program_.received, "what the program receives"));
      SHOAL_TRY(rows_are(*program_.received, Rows::kAll));
    }
    if (program_.sent) {
      SHOAL_TRY(buffer(*program_.sent, "what the program sends"));
      SHOAL_TRY(rows_are(*program_.sent, Rows::kAll));
      if (program_.hidden == kNoBuffer && program_.logits == kNoBuffer) return {};
      return refuse("it sends rows to another stage and has results of its own");
    }
    SHOAL_TRY(buffer(program_.hidden, "the hidden state of the program"));
    SHOAL_TRY(buffer(program_.logits, "the logits of the program"));
    SHOAL_TRY(rows_are(program_.hidden, Rows::kWanted));
    SHOAL_TRY(rows_are(program_.logits, Rows::kWanted));
    if (width(program_.logits) != program_.vocabulary.size()) {
      return refuse("the logits of the program are {} wide and its vocabulary has {} rows",
                    width(program_.logits), program_.vocabulary.size());
    }
    return {};
  }

  // --- ids ---

  Status buffer(BufferId id, const char* what) const {
    if (id >= 0 && static_cast<size_t>(id) < program_.buffers.size()) return {};
    return refuse("{} is buffer {} of {}", what, id, program_.buffers.size());
  }
  const BufferSpec& spec(BufferId id) const { return program_.buffers[static_cast<size_t>(id)]; }
  int64_t width(BufferId id) const { return spec(id).width; }

  Status rows_are(BufferId id, Rows rows) const {
    if (spec(id).rows == rows) return {};
    return refuse("buffer '{}' should hold {} rows of a step", spec(id).name,
                  rows == Rows::kAll ? "all" : "the wanted");
  }
  Status widths_agree(BufferId a, BufferId b) const {
    if (width(a) != width(b)) {
      return refuse("buffers '{}' and '{}' are {} and {} wide", spec(a).name, spec(b).name,
                    width(a), width(b));
    }
    return {};
  }
  Status same_rows(BufferId a, BufferId b) const {
    if (spec(a).rows == spec(b).rows) return {};
    return refuse("buffers '{}' and '{}' hold different rows of a step", spec(a).name,
                  spec(b).name);
  }
  Status distinct(BufferId a, BufferId b) const {
    if (a != b) return {};
    return refuse("buffer '{}' is both read and written", spec(a).name);
  }
  // Another buffer of as many rows.
  Status from_to(BufferId in, BufferId out) {
    SHOAL_TRY(buffer(in, "its input"));
    SHOAL_TRY(buffer(out, "its output"));
    SHOAL_TRY(same_rows(in, out));
    return distinct(in, out);
  }

  Status weight(WeightId id, WeightUse use, WeightShape shape) {
    if (id < 0 || static_cast<size_t>(id) >= program_.weights.size()) {
      return refuse("it names weight {} of {}", id, program_.weights.size());
    }
    const WeightSpec& weight = program_.weights[static_cast<size_t>(id)];
    if (weight.use != use) {
      return refuse("weight '{}' is declared a {} and used as a {}", weight.tensor,
                    words(weight.use), words(use));
    }
    WeightShape& known = shapes_[static_cast<size_t>(id)];
    for (int64_t WeightShape::* side : {&WeightShape::rows, &WeightShape::columns}) {
      if (shape.*side < 0) continue;
      if (known.*side >= 0 && known.*side != shape.*side) {
        return refuse("weight '{}' is used with {} and with {} {}", weight.tensor, known.*side,
                      shape.*side, side == &WeightShape::rows ? "rows" : "columns");
      }
      known.*side = shape.*side;
    }
    return {};
  }
  Status stack(WeightId id, int64_t count, WeightShape shape) {
    SHOAL_TRY(weight(id, WeightUse::kMatrices, shape));
    const WeightSpec& spec = program_.weights[static_cast<size_t>(id)];
    const int64_t held = spec.kept.size() > 0 ? spec.kept.size() : spec.matrix_count;
    return held == count
               ? Status{}
               : refuse("weight '{}' has {} matrices where {} are used", spec.tensor, held, count);
  }
  Status epsilon_is_good(float epsilon) const {
    return epsilon >= 0 && std::isfinite(epsilon) ? Status{} : refuse("its epsilon is {}", epsilon);
  }
  Status column_is_in(int column, BufferId id) const {
    return column >= 0 && column < width(id)
               ? Status{}
               : refuse("it names column {} of buffer '{}'", column, spec(id).name);
  }
  Status vector(WeightId id, int64_t length) { return weight(id, WeightUse::kVector, {1, length}); }

  static int64_t width_of(int heads, int head_dimension) { return int64_t{heads} * head_dimension; }

  // --- operations ---

  Status check_op(const Embed& op) {
    SHOAL_TRY(buffer(op.out, "its output"));
    SHOAL_TRY(rows_are(op.out, Rows::kAll));
    if (op.first_token < 0) return refuse("its first token is {}", op.first_token);
    return weight(op.table, WeightUse::kMatrix, {-1, width(op.out)});
  }
  Status check_op(const RmsNorm& op) {
    SHOAL_TRY(buffer(op.in, "its input"));
    SHOAL_TRY(buffer(op.out, "its output"));
    SHOAL_TRY(widths_agree(op.in, op.out));
    SHOAL_TRY(same_rows(op.in, op.out));
    SHOAL_TRY(epsilon_is_good(op.epsilon));
    if (op.parts < 1 || width(op.in) % op.parts != 0 || op.width < 0 ||
        op.width > width(op.in) / op.parts) {
      return refuse("{} parts of which {} are normed do not fit {} columns", op.parts, op.width,
                    width(op.in));
    }
    if (!op.weight) return {};
    return vector(*op.weight, op.width > 0 ? op.width : width(op.in) / op.parts);
  }
  Status check_op(const SumSquares& op) {
    SHOAL_TRY(from_to(op.in, op.out));
    if (op.elements.begin < 0 || op.elements.begin > op.elements.end ||
        op.elements.end > width(op.in))
      return refuse("it adds elements {} to {} of {}", op.elements.begin, op.elements.end,
                    width(op.in));
    return column_is_in(op.column, op.out);
  }
  Status check_op(const ScaleBySquares& op) {
    SHOAL_TRY(buffer(op.data, "its data"));
    SHOAL_TRY(buffer(op.squares, "its sums"));
    SHOAL_TRY(same_rows(op.data, op.squares));
    SHOAL_TRY(distinct(op.data, op.squares));
    SHOAL_TRY(epsilon_is_good(op.epsilon));
    if (op.count < 1) return refuse("it counts {} elements", op.count);
    SHOAL_TRY(column_is_in(op.column, op.squares));
    return vector(op.weight, width(op.data));
  }
  Status check_op(const Project& op) {
    SHOAL_TRY(buffer(op.in, "its input"));
    for (size_t i = 0; i < op.outputs.size(); ++i) {
      const Project::Output& output = op.outputs[i];
      SHOAL_TRY(buffer(output.out, "an output"));
      SHOAL_TRY(same_rows(op.in, output.out));
      SHOAL_TRY(distinct(op.in, output.out));
      for (size_t j = 0; j < i; ++j) SHOAL_TRY(distinct(op.outputs[j].out, output.out));
      SHOAL_TRY(weight(output.weight, WeightUse::kMatrix, {width(output.out), width(op.in)}));
      if (output.bias) SHOAL_TRY(vector(*output.bias, width(output.out)));
    }
    return {};
  }
  Status check_op(const ProjectParts& op) {
    SHOAL_TRY(from_to(op.in, op.out));
    if (op.in_width < 1 || op.in_width > op.in_stride || op.out_width < 1 ||
        op.out_width > op.out_stride)
      return refuse("parts of {} and {} are {} and {} apart", op.in_width, op.out_width,
                    op.in_stride, op.out_stride);
    SHOAL_TRY(weight(op.weight, WeightUse::kMatrices, {op.out_width, op.in_width}));
    const WeightSpec& spec = program_.weights[static_cast<size_t>(op.weight)];
    const int64_t parts = spec.kept.size() > 0 ? spec.kept.size() : spec.matrix_count;
    if (parts * op.in_stride != width(op.in) || parts * op.out_stride != width(op.out)) {
      return refuse("{} parts of {} and {} do not fill buffers {} and {} wide", parts, op.in_stride,
                    op.out_stride, width(op.in), width(op.out));
    }
    return {};
  }
  Status check_op(const CopyParts& op) {
    SHOAL_TRY(from_to(op.in, op.out));
    const auto fits = [&](BufferId id, int64_t stride, int64_t offset) {
      return stride > 0 && offset >= 0 && op.width > 0 && offset <= stride - op.width &&
             op.parts > 0 && stride <= width(id) / op.parts;
    };
    if (fits(op.in, op.in_stride, op.in_offset) && fits(op.out, op.out_stride, op.out_offset))
      return {};
    return refuse("{} parts of {} do not fit buffers {} and {} wide", op.parts, op.width,
                  width(op.in), width(op.out));
  }
  Status check_op(const GrowByPosition& op) {
    SHOAL_TRY(buffer(op.data, "its data"));
    SHOAL_TRY(rows_are(op.data, Rows::kAll));
    if (op.period < 1 || !std::isfinite(op.growth) || op.offset < 0 || op.offset > kMaxPositions)
      return refuse("it grows by {} every {} positions from {} on", op.growth, op.period,
                    op.offset);
    return {};
  }
  Status check_op(const Experts& op) {
    for (const BufferId id : {op.in, op.router, op.out}) {
      SHOAL_TRY(buffer(id, "a buffer of it"));
      SHOAL_TRY(rows_are(id, Rows::kAll));
    }
    SHOAL_TRY(widths_agree(op.in, op.out));
    SHOAL_TRY(distinct(op.in, op.out));
    const int64_t experts = width(op.router), hidden = width(op.in);
    const Routing& routing = op.routing;
    if (routing.used < 1 || routing.used > experts || routing.groups < 1 ||
        experts % routing.groups != 0 || routing.groups_used < 1 ||
        routing.groups_used > routing.groups ||
        routing.groups_used * (experts / routing.groups) < routing.used ||
        !std::isfinite(routing.scale) || op.width < 1) {
      return refuse("{} of {} experts, of {} groups of {}, cannot be chosen", routing.used, experts,
                    routing.groups_used, routing.groups);
    }
    for (const auto& each : {routing.selection_bias, routing.expert_scales}) {
      if (each) SHOAL_TRY(vector(*each, experts));
    }
    SHOAL_TRY(stack(op.gate, experts, {op.width, hidden}));
    SHOAL_TRY(stack(op.up, experts, {op.width, hidden}));
    SHOAL_TRY(stack(op.down, experts, {hidden, op.width}));
    for (const auto& [bias, length] :
         {std::pair{op.gate_bias, op.width}, std::pair{op.up_bias, op.width},
          std::pair{op.down_bias, hidden}}) {
      if (bias) SHOAL_TRY(weight(*bias, WeightUse::kVector, {experts, length}));
    }
    return {};
  }
  Status check_op(const Scale& op) {
    SHOAL_TRY(buffer(op.data, "its data"));
    if (op.weight) SHOAL_TRY(vector(*op.weight, 1));
    return std::isfinite(op.factor) ? Status{} : refuse("its factor is {}", op.factor);
  }
  Status check_op(const SoftCap& op) {
    SHOAL_TRY(buffer(op.data, "its data"));
    return std::isfinite(op.cap) && op.cap > 0 ? Status{} : refuse("its cap is {}", op.cap);
  }
  Status check_op(const SigmoidScale& op) {
    SHOAL_TRY(buffer(op.data, "its data"));
    SHOAL_TRY(buffer(op.gate, "its gate"));
    SHOAL_TRY(same_rows(op.data, op.gate));
    SHOAL_TRY(distinct(op.data, op.gate));
    return width(op.gate) == 1 ? Status{} : refuse("its gate is {} wide", width(op.gate));
  }
  Status check_op(const Rotate& op) {
    SHOAL_TRY(buffer(op.data, "its data"));
    SHOAL_TRY(rows_are(op.data, Rows::kAll));
    if (op.rope < 0 || static_cast<size_t>(op.rope) >= program_.ropes.size()) {
      return refuse("it names rope {} of {}", op.rope, program_.ropes.size());
    }
    if (op.heads < 1 || op.head_dimension < 1 ||
        width_of(op.heads, op.head_dimension) != width(op.data)) {
      return refuse("{} heads of {} do not fill buffer '{}', {} wide", op.heads, op.head_dimension,
                    spec(op.data).name, width(op.data));
    }
    const int dimensions = program_.ropes[static_cast<size_t>(op.rope)].dimensions;
    if (op.offset >= 0 && dimensions <= op.head_dimension - op.offset) return {};
    return refuse("its rope turns {} dimensions from {} of heads of {}", dimensions, op.offset,
                  op.head_dimension);
  }
  Status attend_buffer(BufferId id) const {
    SHOAL_TRY(buffer(id, "a buffer of it"));
    return rows_are(id, Rows::kAll);
  }
  Status appended_fits(const Attend& op, const CacheGroupSpec& group) const {
    for (const BufferId id : {op.k, op.v}) {
      SHOAL_TRY(attend_buffer(id));
      SHOAL_TRY(distinct(id, op.out));
    }
    const int64_t kv_width = width_of(group.kv_heads, group.head_dimension);
    if (width(op.k) == kv_width && width(op.v) == kv_width) return {};
    return refuse("{} KV heads of {} do not fit buffers {} and {} wide", group.kv_heads,
                  group.head_dimension, width(op.k), width(op.v));
  }
  Status check_op(const Attend& op) {
    if (op.group < 0 || static_cast<size_t>(op.group) >= program_.cache_groups.size()) {
      return refuse("it names cache group {} of {}", op.group, program_.cache_groups.size());
    }
    const CacheGroupSpec& group = program_.cache_groups[static_cast<size_t>(op.group)];
    if (op.layer < 0 || op.layer >= group.layer_count) {
      return refuse("it names layer {} of a cache group of {}", op.layer, group.layer_count);
    }
    for (const BufferId id : {op.q, op.out}) SHOAL_TRY(attend_buffer(id));
    SHOAL_TRY(distinct(op.q, op.out));
    const auto heads = static_cast<int64_t>(op.query_to_kv.size());
    if (heads < 1 || heads * group.head_dimension != width(op.q) ||
        heads * group.value_dimension() != width(op.out)) {
      return refuse("{} query heads of {} do not fit buffers {} and {} wide", heads,
                    group.head_dimension, width(op.q), width(op.out));
    }
    if (op.appends) SHOAL_TRY(appended_fits(op, group));
    for (const int kv : op.query_to_kv) {
      if (kv < 0 || kv >= group.kv_heads)
        return refuse("a query head reads KV head {} of {}", kv, group.kv_heads);
    }
    if (op.sinks) SHOAL_TRY(vector(*op.sinks, heads));
    return std::isfinite(op.scale) && std::isfinite(op.soft_cap) && op.soft_cap >= 0
               ? Status{}
               : refuse("its scale is {} and its cap {}", op.scale, op.soft_cap);
  }
  Status check_op(const Gate& op) {
    for (const BufferId id : {op.gate, op.up, op.out}) SHOAL_TRY(buffer(id, "a buffer of it"));
    for (const BufferId id : {op.up, op.out}) {
      SHOAL_TRY(widths_agree(op.gate, id));
      SHOAL_TRY(same_rows(op.gate, id));
    }
    return {};
  }
  Status check_op(const Add& op) {
    SHOAL_TRY(buffer(op.in, "its input"));
    SHOAL_TRY(buffer(op.target, "its target"));
    SHOAL_TRY(widths_agree(op.in, op.target));
    return same_rows(op.in, op.target);
  }
  Status check_op(const Gather& op) {
    SHOAL_TRY(buffer(op.in, "its input"));
    SHOAL_TRY(buffer(op.out, "its output"));
    SHOAL_TRY(widths_agree(op.in, op.out));
    SHOAL_TRY(rows_are(op.in, Rows::kAll));
    return rows_are(op.out, Rows::kWanted);
  }

  const Program& program_;
  std::vector<WeightShape> shapes_;
};

}  // namespace

Result<std::vector<WeightShape>> check_program(const Program& program,
                                               const BackendLimits& limits) {
  if (limits.rows < 1 || limits.rows > kMaxRows || limits.wanted_rows < 1 ||
      limits.wanted_rows > kMaxRows || limits.positions < 1 || limits.positions > kMaxPositions) {
    return fail(ErrorCode::kInvalidArgument,
                "a step of {} rows, {} of them wanted, of {} positions cannot be run", limits.rows,
                limits.wanted_rows, limits.positions);
  }
  Checker checker(program);
  SHOAL_TRY(checker.check());
  return std::move(checker).shapes();
}

Status check_batch(const Program& program, const BackendLimits& limits, const StepBatch& batch) {
  const size_t rows = batch.tokens.size();
  if (batch.positions.size() != rows || batch.roles.size() != rows ||
      batch.sequences.size() != rows) {
    return refuse("a step has {} tokens, {} positions, {} roles and {} sequences", rows,
                  batch.positions.size(), batch.roles.size(), batch.sequences.size());
  }
  const auto fits = [](int64_t first, size_t count, int64_t limit) {
    return first >= 0 && first <= limit && static_cast<int64_t>(count) <= limit - first;
  };
  if (!fits(batch.first_row, rows, limits.rows) ||
      !fits(batch.first_wanted, batch.wanted.size(), limits.wanted_rows)) {
    return refuse(
        "a step's {} rows from row {} on, {} of them wanted from place {} on, are over the limits "
        "{} and {}",
        rows, batch.first_row, batch.wanted.size(), batch.first_wanted, limits.rows,
        limits.wanted_rows);
  }
  for (const int32_t row : batch.wanted) {
    if (row < 0 || static_cast<size_t>(row) >= rows)
      return refuse("a step of {} rows wants row {}", rows, row);
  }
  if (batch.page_tables.size() != program.cache_groups.size()) {
    return refuse("a step has page tables for {} cache groups of {}", batch.page_tables.size(),
                  program.cache_groups.size());
  }
  for (size_t row = 0; row < rows; ++row) {
    if (batch.positions[row] < 0 || batch.positions[row] >= limits.positions) {
      return refuse("row {} of a step has position {}, the limit is {}", row, batch.positions[row],
                    limits.positions);
    }
    for (const auto& tables : batch.page_tables) {
      if (batch.sequences[row] < 0 || static_cast<size_t>(batch.sequences[row]) >= tables.size()) {
        return refuse("row {} of a step belongs to sequence {} of {}", row, batch.sequences[row],
                      tables.size());
      }
    }
  }
  return {};
}

Status check_pages(const CacheGroupSpec& spec, size_t group, int64_t pages,
                   const StepBatch& batch) {
  int64_t checked_until = 0;  // pages of the previous row's sequence below this are known
  for (size_t row = 0; row < batch.tokens.size(); ++row) {
    const int64_t position = batch.positions[row];
    const auto table = batch.page_tables[group][static_cast<size_t>(batch.sequences[row])];
    const bool goes_on = row > 0 && batch.sequences[row] == batch.sequences[row - 1] &&
                         position >= batch.positions[row - 1];
    const int64_t first = first_attended(spec, position) / kPageTokens,
                  last = position / kPageTokens;
    if (static_cast<int64_t>(table.size()) <= last) {
      return refuse("the page table of a sequence has {} pages and position {} needs {}",
                    table.size(), position, last + 1);
    }
    for (int64_t i = goes_on ? std::max(first, checked_until) : first; i <= last; ++i) {
      const PageId page = table[static_cast<size_t>(i)];
      if (page < 0 || page >= pages)
        return refuse("a page table names KV page {} of {}", page, pages);
    }
    checked_until = last + 1;
  }
  return {};
}

}  // namespace shoal::kernels
