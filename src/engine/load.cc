#include "engine/load.h"

#include <algorithm>
#include <vector>

namespace shoal {

namespace {

struct Part {
  WeightId weight;
  TensorSource source;
  uint64_t kept_bytes;
};

uint64_t kept_bytes(const TensorSource& source, const WeightSpec& spec) {
  const int64_t matrix_rows = std::max<int64_t>(1, source.rows / spec.matrix_count);
  const int64_t held = spec.kept.size() > 0 ? spec.kept.size() : spec.matrix_count;
  const double matrices = static_cast<double>(held) / static_cast<double>(spec.matrix_count);
  const double rows =
      static_cast<double>(kept(spec.cut.rows, matrix_rows)) / static_cast<double>(matrix_rows);
  const double columns = static_cast<double>(kept(spec.cut.columns, source.columns)) /
                         static_cast<double>(source.columns);
  return static_cast<uint64_t>(static_cast<double>(source.bytes.size()) * matrices * rows *
                               columns);
}

}  // namespace

Status load_weights(const gguf::File& file, const Program& program, Backend& backend,
                    const std::function<void(uint64_t, uint64_t)>& progress) {
  std::vector<Part> parts;
  uint64_t all_bytes = 0;
  for (size_t id = 0; id < program.weights.size(); ++id) {
    const WeightSpec& spec = program.weights[id];
    SHOAL_ASSIGN(TensorSource source, file.tensor(spec.tensor));
    if (source.rows <= 0 || source.columns <= 0) {
      return fail(ErrorCode::kCorrupt, "{}: tensor {} is empty", file.path(), spec.tensor);
    }
    // Another weight may read the same bytes again: it gets their pages back.
    source.done_with = [&file, info = file.find_tensor(spec.tensor)](auto part) {
      file.release(*info, part);
    };
    const uint64_t kept = kept_bytes(source, spec);
    parts.push_back({static_cast<WeightId>(id), std::move(source), kept});
    all_bytes += parts.back().kept_bytes;
  }
  std::ranges::stable_sort(parts, [](const Part& a, const Part& b) {
    return a.source.bytes.size() > b.source.bytes.size();
  });
  file.release_all();  // metadata, and the beginnings of all tensors, of which a digest was made
  uint64_t done_bytes = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    if (progress) progress(done_bytes, all_bytes);
    if (Status loaded = backend.load(part.weight, part.source); !loaded) {
      return std::unexpected(loaded.error().within(file.path()));
    }
    // Parts of a fused tensor follow one another: it is let go of behind the last.
    const bool goes_on = i + 1 < parts.size() && parts[i + 1].source.name == part.source.name;
    const auto* info = file.find_tensor(part.source.name);
    if (info != nullptr && !goes_on) file.release(*info);
    done_bytes += part.kept_bytes;
  }
  file.release_all();  // what came along with bytes beside it
  if (progress) progress(all_bytes, all_bytes);
  return {};
}

}  // namespace shoal
