#include "tensor/work.h"

#include <algorithm>

namespace shoal {

namespace {

int64_t width(const Program& program, BufferId id) {
  return program.buffers[static_cast<size_t>(id)].width;
}
int64_t rows(const Program& program, BufferId id, const StepBatch& batch) {
  const bool all = program.buffers[static_cast<size_t>(id)].rows == Rows::kAll;
  return static_cast<int64_t>(all ? batch.tokens.size() : batch.wanted.size());
}

// --- names ---

// By the names that the file format gives to tensors.
std::string_view part_of_weight(const Program& program, WeightId id) {
  const std::string& tensor = program.weights[static_cast<size_t>(id)].tensor;
  if (tensor.find("ffn_gate_inp") != std::string::npos) return "router";
  if (tensor.find("attn") != std::string::npos) return "attention products";
  if (tensor.find("ffn") != std::string::npos) return "feed-forward products";
  return "other products";
}

// One for each operation: a new one does not compile until it has a name here.
std::string_view part(const Program&, const Embed&) {
  return "embedding";
}
std::string_view part(const Program&, const RmsNorm&) {
  return "norms";
}
std::string_view part(const Program&, const SumSquares&) {
  return "norms";
}
std::string_view part(const Program&, const ScaleBySquares&) {
  return "norms";
}
std::string_view part(const Program& program, const Project& op) {
  const Project::Output& first = op.outputs.front();
  if (first.out == program.logits) return "head products";
  return part_of_weight(program, first.weight);
}
std::string_view part(const Program& program, const ProjectParts& op) {
  return part_of_weight(program, op.weight);
}
std::string_view part(const Program&, const CopyParts&) {
  return "copies";
}
std::string_view part(const Program&, const Rotate&) {
  return "rope";
}
std::string_view part(const Program&, const GrowByPosition&) {
  return "scaling";
}
std::string_view part(const Program&, const Attend&) {
  return "attention";
}
std::string_view part(const Program&, const Gate&) {
  return "gate";
}
std::string_view part(const Program&, const Experts&) {
  return "experts";
}
std::string_view part(const Program&, const Add&) {
  return "residuals";
}
std::string_view part(const Program&, const Scale&) {
  return "scaling";
}
std::string_view part(const Program&, const SoftCap&) {
  return "scaling";
}
std::string_view part(const Program&, const SigmoidScale&) {
  return "scaling";
}
std::string_view part(const Program&, const Gather&) {
  return "copies";
}

// --- work ---

struct Counter {
  const Program& program;
  const StepBatch& batch;
  const HeldBytes& held;
  int64_t experts_read;

  double weight_bytes(WeightId id) const {
    return static_cast<double>(held.weights[static_cast<size_t>(id)]);
  }
  double optional_bytes(const std::optional<WeightId>& id) const {
    return id ? weight_bytes(*id) : 0;
  }

  Work operator()(const Embed& op) const {
    const double share = static_cast<double>(rows(program, op.out, batch)) /
                         static_cast<double>(std::max<int64_t>(1, program.vocabulary.size()));
    return {.read_bytes = weight_bytes(op.table) * share};
  }
  Work operator()(const RmsNorm& op) const { return {.read_bytes = optional_bytes(op.weight)}; }
  Work operator()(const ScaleBySquares& op) const {
    return {.read_bytes = weight_bytes(op.weight)};
  }
  Work operator()(const Project& op) const {
    Work work;
    for (const Project::Output& output : op.outputs) {
      work.read_bytes += weight_bytes(output.weight) + optional_bytes(output.bias);
      work.multiply_adds += static_cast<double>(width(program, output.out));
    }
    const int64_t count = rows(program, op.in, batch);
    work.multiply_adds *= static_cast<double>(count * width(program, op.in));
    if (count == 0) work.read_bytes = 0;
    return work;
  }
  Work operator()(const ProjectParts& op) const {
    const int64_t parts = width(program, op.in) / op.in_stride;
    return {.read_bytes = weight_bytes(op.weight),
            .multiply_adds = static_cast<double>(rows(program, op.in, batch) * parts) *
                             static_cast<double>(op.in_width * op.out_width)};
  }
  Work operator()(const Attend& op) const {
    const CacheGroupSpec& group = program.cache_groups[static_cast<size_t>(op.group)];
    double attended = 0, covered = 0;
    for (size_t r = 0; r < batch.positions.size(); ++r) {
      const int64_t end = int64_t{batch.positions[r]} + 1;
      const int64_t begin = group.first_attended(batch.positions[r]);
      attended += static_cast<double>(end - begin);
      // Rows of a sequence follow one another: its first row reads furthest back, each other one
      // position more.
      const bool goes_on = r > 0 && batch.sequences[r] == batch.sequences[r - 1];
      covered += goes_on ? 1 : static_cast<double>(end - begin);
    }
    const auto heads = static_cast<double>(op.query_to_kv.size());
    const double per_position = group.head_dimension + group.value_dimension();
    return {.read_bytes =
                covered * static_cast<double>(held.kv_positions[static_cast<size_t>(op.group)]),
            .multiply_adds = attended * heads * per_position};
  }
  Work operator()(const Experts& op) const {
    const WeightSpec& spec = program.weights[static_cast<size_t>(op.gate)];
    const int64_t held_count = spec.kept.size() > 0 ? spec.kept.size() : spec.matrix_count;
    const double share = static_cast<double>(experts_read) / static_cast<double>(held_count);
    const int64_t pairs = rows(program, op.in, batch) * op.routing.used;
    return {
        .read_bytes = share * (weight_bytes(op.gate) + weight_bytes(op.up) + weight_bytes(op.down)),
        .multiply_adds =
            3 * static_cast<double>(pairs * op.width) * static_cast<double>(width(program, op.in))};
  }
  Work operator()(const auto&) const { return {}; }
};

}  // namespace

std::string_view part_of(const Program& program, const Operation& operation) {
  return std::visit([&](const auto& op) { return part(program, op); }, operation);
}

Work work_of(const Program& program, const Operation& operation, const StepBatch& batch,
             const HeldBytes& held, int64_t experts_read) {
  return std::visit(Counter{program, batch, held, experts_read}, operation);
}

}  // namespace shoal
