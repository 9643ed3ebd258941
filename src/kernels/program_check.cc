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
      if (group.layer_count < 1 || group.kv_heads < 1 || group.head_dimension < 1 ||
          group.window < 0 || width_of(group.kv_heads, group.head_dimension) > kMaxWidth) {
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
        !std::isfinite(rope.amplitude)) {
      return refuse("rope {} of the program turns {} dimensions with base {}", index,
                    rope.dimensions, rope.base);
    }
    return rope.frequency_factors ? vector(*rope.frequency_factors, rope.dimensions / 2) : Status{};
  }

  Status check_results() {
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

  Status weight(WeightId id, WeightUse use, WeightShape shape) {
    if (id < 0 || static_cast<size_t>(id) >= program_.weights.size()) {
      return refuse("it names weight {} of {}", id, program_.weights.size());
    }
    const WeightSpec& weight = program_.weights[static_cast<size_t>(id)];
    if (weight.use != use) {
      return refuse("weight '{}' is declared a {} and used as a {}", weight.tensor,
                    weight.use == WeightUse::kVector ? "vector" : "matrix",
                    use == WeightUse::kVector ? "vector" : "matrix");
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
    if (!(op.epsilon >= 0) || !std::isfinite(op.epsilon))
      return refuse("its epsilon is {}", op.epsilon);
    return vector(op.weight, width(op.in));
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
    if (dimensions <= op.head_dimension) return {};
    return refuse("its rope turns {} dimensions of heads of {}", dimensions, op.head_dimension);
  }
  Status check_op(const Attend& op) {
    if (op.group < 0 || static_cast<size_t>(op.group) >= program_.cache_groups.size()) {
      return refuse("it names cache group {} of {}", op.group, program_.cache_groups.size());
    }
    const CacheGroupSpec& group = program_.cache_groups[static_cast<size_t>(op.group)];
    if (op.layer < 0 || op.layer >= group.layer_count) {
      return refuse("it names layer {} of a cache group of {}", op.layer, group.layer_count);
    }
    for (const BufferId id : {op.q, op.k, op.v, op.out}) {
      SHOAL_TRY(buffer(id, "a buffer of it"));
      SHOAL_TRY(rows_are(id, Rows::kAll));
    }
    for (const BufferId id : {op.q, op.k, op.v}) SHOAL_TRY(distinct(id, op.out));
    const auto heads = static_cast<int64_t>(op.query_to_kv.size());
    if (heads < 1 || heads * group.head_dimension != width(op.q) || width(op.q) != width(op.out)) {
      return refuse("{} query heads of {} do not fit buffers {} and {} wide", heads,
                    group.head_dimension, width(op.q), width(op.out));
    }
    const int64_t kv_width = width_of(group.kv_heads, group.head_dimension);
    if (width(op.k) != kv_width || width(op.v) != kv_width) {
      return refuse("{} KV heads of {} do not fit buffers {} and {} wide", group.kv_heads,
                    group.head_dimension, width(op.k), width(op.v));
    }
    for (const int kv : op.query_to_kv) {
      if (kv < 0 || kv >= group.kv_heads)
        return refuse("a query head reads KV head {} of {}", kv, group.kv_heads);
    }
    return std::isfinite(op.scale) ? Status{} : refuse("its scale is {}", op.scale);
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
  if (static_cast<int64_t>(rows) > limits.rows ||
      static_cast<int64_t>(batch.wanted.size()) > limits.wanted_rows) {
    return refuse("a step of {} rows, {} of them wanted, is over the limits {} and {}", rows,
                  batch.wanted.size(), limits.rows, limits.wanted_rows);
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
