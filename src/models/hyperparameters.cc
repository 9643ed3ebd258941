#include "models/hyperparameters.h"

#include <cmath>
#include <limits>

namespace shoal {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();

}  // namespace

bool Hyperparameters::has(std::string_view name) const {
  return file_.find(key(name)) != nullptr;
}

std::unexpected<Error> Hyperparameters::missing(std::string_view name) const {
  return fail(ErrorCode::kCorrupt,
              "{}: the metadata key \"{}\" is missing; the file does not say what a {} model needs",
              file_.path(), key(name), prefix_);
}

Result<int64_t> Hyperparameters::count(std::string_view name) const {
  if (!has(name)) return missing(name);
  SHOAL_ASSIGN(const auto values, file_.integers(key(name)));
  if (values.empty()) return wrong(ErrorCode::kCorrupt, name, "the array is empty");
  for (const int64_t value : values) {
    if (value != values.front()) {
      return wrong(
          ErrorCode::kUnsupported, name,
          "{} in one layer and {} in another; layers of different shapes are not supported",
          values.front(), value);
    }
  }
  if (values.front() < 1 || values.front() > kLargest) {
    return wrong(ErrorCode::kCorrupt, name, "{} is not between 1 and {}", values.front(), kLargest);
  }
  return values.front();
}

Result<int64_t> Hyperparameters::count_or(std::string_view name, int64_t otherwise) const {
  if (!has(name)) return otherwise;
  return count(name);
}

Result<int64_t> Hyperparameters::count_or_zero(std::string_view name) const {
  if (!has(name)) return 0;
  SHOAL_ASSIGN(const int64_t value, file_.integer(key(name)));
  if (value < 0) return wrong(ErrorCode::kCorrupt, name, "{} is negative", value);
  return value;
}

Result<float> Hyperparameters::positive(std::string_view name) const {
  if (!has(name)) return missing(name);
  SHOAL_ASSIGN(const double value, file_.number(key(name)));
  const auto narrowed = static_cast<float>(value);
  if (!std::isfinite(narrowed) || !(narrowed > 0)) {
    return wrong(ErrorCode::kCorrupt, name, "{} is not a finite number above zero", value);
  }
  return narrowed;
}

Result<float> Hyperparameters::positive_or(std::string_view name, float otherwise) const {
  if (!has(name)) return otherwise;
  return positive(name);
}

Result<std::string> Hyperparameters::text_or(std::string_view name,
                                             std::string_view otherwise) const {
  if (!has(name)) return std::string(otherwise);
  SHOAL_ASSIGN(const std::string_view text, file_.string(key(name)));
  return std::string(text);
}

Result<RopeSpec> Hyperparameters::rope(int64_t head_dimension, bool interleaved) const {
  RopeSpec rope{};
  SHOAL_ASSIGN(const int64_t dimensions, count_or("rope.dimension_count", head_dimension));
  if (dimensions % 2 != 0 || dimensions > head_dimension) {
    return wrong(ErrorCode::kCorrupt, "rope.dimension_count",
                 "{} is not an even number up to the head dimension {}", dimensions,
                 head_dimension);
  }
  rope.dimensions = static_cast<int>(dimensions);
  rope.interleaved = interleaved;
  SHOAL_ASSIGN(rope.base, positive_or("rope.freq_base", 10000.0f));
  SHOAL_ASSIGN(const std::string scaling, text_or("rope.scaling.type", "none"));
  // Files from before rope.scaling.type have the factor alone, under another name.
  SHOAL_ASSIGN(const float old_factor, positive_or("rope.scale_linear", 1.0f));
  SHOAL_ASSIGN(const float factor, positive_or("rope.scaling.factor", old_factor));
  if (scaling == "linear" || (scaling == "none" && !has("rope.scaling.type"))) {
    rope.position_scale = 1 / factor;
    if (!std::isfinite(rope.position_scale) || rope.position_scale == 0) {
      return wrong(ErrorCode::kCorrupt, "rope.scaling.factor", "{} cannot scale positions", factor);
    }
  } else if (scaling != "none") {
    return wrong(ErrorCode::kUnsupported, "rope.scaling.type",
                 "{} scaling is not supported; supported are none and linear",
                 gguf::printable(scaling));
  }
  return rope;
}

}  // namespace shoal
