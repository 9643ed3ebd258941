#include <cmath>

#include "sampling/sampler.h"

namespace shoal {

namespace {

constexpr double kHighestTemperature = 100;
constexpr int64_t kMostTopK = INT32_MAX;
constexpr int64_t kMostLogprobs = 1000;

Status read_number(const Json& json, const char* name, double lowest, double highest,
                   double& value) {
  SHOAL_ASSIGN(const double number, json_field_or<double>(json, name, value));
  if (!(number >= lowest && number <= highest)) {
    return fail(ErrorCode::kInvalidArgument, "'{}' must be from {} to {}, not {}", name, lowest,
                highest, number);
  }
  value = number;
  return {};
}

Status read_count(const Json& json, const char* name, int64_t lowest, int64_t highest,
                  int64_t& value) {
  SHOAL_ASSIGN(const int64_t number, json_field_or<int64_t>(json, name, value));
  if (number < lowest || number > highest) {
    return fail(ErrorCode::kInvalidArgument, "'{}' must be from {} to {}, not {}", name, lowest,
                highest, number);
  }
  value = number;
  return {};
}

}  // namespace

Json to_json(const SamplingParameters& parameters) {
  return {{"temperature", parameters.temperature},
          {"top_k", parameters.top_k},
          {"top_p", parameters.top_p},
          {"min_p", parameters.min_p},
          {"seed", parameters.seed},
          {"logprobs", parameters.logprobs}};
}

Result<SamplingParameters> sampling_from_json(const Json& json, uint64_t default_seed) {
  if (!json.is_object()) {
    return fail(ErrorCode::kInvalidArgument, "the sampling parameters must be an object");
  }
  SamplingParameters parameters;
  SHOAL_TRY(read_number(json, "temperature", 0, kHighestTemperature, parameters.temperature));
  SHOAL_TRY(read_count(json, "top_k", 0, kMostTopK, parameters.top_k));
  SHOAL_TRY(read_number(json, "top_p", 0, 1, parameters.top_p));
  SHOAL_TRY(read_number(json, "min_p", 0, 1, parameters.min_p));
  SHOAL_TRY(read_count(json, "logprobs", -1, kMostLogprobs, parameters.logprobs));
  parameters.seed = default_seed;
  if (json.contains("seed") && !json.at("seed").is_null()) {
    const Json& seed = json.at("seed");
    if (!seed.is_number_integer()) {
      return fail(ErrorCode::kInvalidArgument, "'seed' must be an integer of at most 64 bits");
    }
    parameters.seed = seed.is_number_unsigned() ? seed.get<uint64_t>()
                                                : static_cast<uint64_t>(seed.get<int64_t>());
  }
  return parameters;
}

}  // namespace shoal
