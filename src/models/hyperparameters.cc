#include "models/hyperparameters.h"

#include <algorithm>
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

Result<std::vector<int64_t>> Hyperparameters::counts(std::string_view name, int64_t layers) const {
  if (!has(name)) return missing(name);
  SHOAL_ASSIGN(const auto values, file_.integers(key(name)));
  if (values.size() != 1 && values.size() != static_cast<size_t>(layers))
    return wrong(ErrorCode::kCorrupt, name, "{} elements for {} layers", values.size(), layers);
  for (const int64_t value : values) {
    if (value >= 1 && value <= kLargest) continue;
    return wrong(ErrorCode::kCorrupt, name, "{} is not between 1 and {}", value, kLargest);
  }
  std::vector<int64_t> counts(values.begin(), values.end());
  counts.resize(static_cast<size_t>(layers), counts.front());
  return counts;
}

Result<int64_t> Hyperparameters::count_or(std::string_view name, int64_t otherwise) const {
  if (!has(name)) return otherwise;
  return count(name);
}

Result<int64_t> Hyperparameters::count_or_zero(std::string_view name) const {
  if (!has(name)) return 0;
  SHOAL_ASSIGN(const int64_t value, file_.integer(key(name)));
  if (value < 0 || value > kLargest) {
    return wrong(ErrorCode::kCorrupt, name, "{} is not between 0 and {}", value, kLargest);
  }
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

Result<float> Hyperparameters::number_or(std::string_view name, float otherwise) const {
  if (!has(name)) return otherwise;
  SHOAL_ASSIGN(const double value, file_.number(key(name)));
  const auto narrowed = static_cast<float>(value);
  if (!std::isfinite(narrowed))
    return wrong(ErrorCode::kCorrupt, name, "{} is not a finite number", value);
  return narrowed;
}

Result<std::string> Hyperparameters::text_or(std::string_view name,
                                             std::string_view otherwise) const {
  if (!has(name)) return std::string(otherwise);
  SHOAL_ASSIGN(const std::string_view text, file_.string(key(name)));
  return std::string(text);
}

Result<bool> Hyperparameters::flag_or(std::string_view name, bool otherwise) const {
  if (!has(name)) return otherwise;
  return file_.boolean(key(name));
}

Result<std::vector<bool>> Hyperparameters::pattern_or(std::string_view name, int64_t layers,
                                                      int64_t period) const {
  std::vector<bool> pattern(static_cast<size_t>(layers), false);
  const gguf::Value* value = file_.find(key(name));
  const auto* array = value != nullptr ? std::get_if<gguf::Array>(value) : nullptr;
  if (array != nullptr && array->element_type == static_cast<uint32_t>(gguf::ValueType::kBool)) {
    if (array->count != pattern.size())
      return wrong(ErrorCode::kCorrupt, name, "{} elements for {} layers", array->count, layers);
    for (size_t layer = 0; layer < pattern.size(); ++layer)
      pattern[layer] = array->bytes[layer] != std::byte{0};
    return pattern;
  }
  if (has(name)) {
    SHOAL_ASSIGN(const auto values, file_.integers(key(name)));
    if (values.size() == static_cast<size_t>(layers)) {
      for (size_t layer = 0; layer < values.size(); ++layer) pattern[layer] = values[layer] != 0;
      return pattern;
    }
    if (values.size() != 1 || values[0] < 0 || values[0] > kLargest) {
      return wrong(ErrorCode::kCorrupt, name, "{} elements for {} layers", values.size(), layers);
    }
    period = values[0];
  }
  if (period == 0) return pattern;
  for (int64_t layer = 0; layer < layers; ++layer)
    pattern[static_cast<size_t>(layer)] = layer % period < period - 1;
  return pattern;
}

Status Hyperparameters::scale_by_yarn(RopeSpec& rope, float factor, Yarn yarn) const {
  SHOAL_ASSIGN(const int64_t trained, count("context_length"));
  SHOAL_ASSIGN(const int64_t original, count_or("rope.scaling.original_context_length", trained));
  SHOAL_ASSIGN(const float fast, positive_or("rope.scaling.yarn_beta_fast", 32.0f));
  SHOAL_ASSIGN(const float slow, positive_or("rope.scaling.yarn_beta_slow", 1.0f));
  SHOAL_ASSIGN(const float amplitude, positive_or("rope.scaling.attn_factor", 1.0f));
  if (rope.base == 1)
    return wrong(ErrorCode::kCorrupt, "rope.freq_base", "a base of 1 turns no pair slower");
  const double dimensions = rope.dimensions;
  // The pair that turns `turns` times over the original context.
  const auto pair_of = [&](double turns) {
    constexpr double kTwoPi = 6.283185307179586;
    return dimensions * std::log(static_cast<double>(original) / (turns * kTwoPi)) /
           (2 * std::log(static_cast<double>(rope.base)));
  };
  double low = pair_of(static_cast<double>(fast));
  double high = pair_of(static_cast<double>(slow));
  if (yarn.rounded) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dimensions - 1);
  for (int pair = 0; pair < rope.dimensions / 2; ++pair) {
    const double ramp = std::clamp((pair - low) / std::max(high - low, 0.001), 0.0, 1.0);
    rope.frequency_scales.push_back(ramp / static_cast<double>(factor) + (1 - ramp));
  }
  rope.amplitude = amplitude;
  if (yarn.amplifies)
    rope.amplitude *= static_cast<float>(1 + 0.1 * std::log(static_cast<double>(factor)));
  return {};
}

Result<RopeSpec> Hyperparameters::rope(int64_t head_dimension, bool interleaved, Yarn yarn) const {
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
  } else if (scaling == "yarn") {
    SHOAL_TRY(scale_by_yarn(rope, factor, yarn));
  } else if (scaling != "none" && !(yarn.or_long && scaling == "longrope")) {
    return wrong(ErrorCode::kUnsupported, "rope.scaling.type",
                 "{} scaling is not supported; supported are none, linear and yarn",
                 gguf::printable(scaling));
  }
  return rope;
}

}  // namespace shoal
