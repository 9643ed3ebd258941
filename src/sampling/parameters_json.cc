#include <cmath>

#include "sampling/parameters.h"

namespace shoal {

namespace {

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

// A list of strings; false when the field is absent or null.
Result<bool> read_strings(const Json& json, const char* name, std::vector<std::string>& strings) {
  if (!json.contains(name) || json.at(name).is_null()) return false;
  const Json& list = json.at(name);
  strings.clear();
  for (const Json& one : list.is_array() ? list : Json::array({nullptr})) {
    if (!one.is_string())
      return fail(ErrorCode::kInvalidArgument, "'{}' must be a list of strings", name);
    strings.push_back(one.get<std::string>());
  }
  return true;
}

// [token, bias] pairs; a bias of null is -inf, which JSON cannot say.
Status read_bias(const Json& json, std::vector<LogitBias>& bias) {
  if (!json.contains("logit_bias") || json.at("logit_bias").is_null()) return {};
  const Json& list = json.at("logit_bias");
  for (const Json& pair : list.is_array() ? list : Json::array({nullptr})) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer() ||
        pair[0].get<int64_t>() < 0 || pair[0].get<int64_t>() > INT32_MAX ||
        !(pair[1].is_null() || pair[1].is_number())) {
      return fail(ErrorCode::kInvalidArgument,
                  "'logit_bias' must be a list of pairs [token, number or null]");
    }
    bias.push_back({pair[0].get<int32_t>(), pair[1].is_null()
                                                ? -std::numeric_limits<float>::infinity()
                                                : static_cast<float>(pair[1].get<double>())});
  }
  return check_biases(bias);
}

Status read_seed(const Json& json, uint64_t& seed) {
  if (!json.contains("seed") || json.at("seed").is_null()) return {};
  const Json& value = json.at("seed");
  if (!value.is_number_integer()) {
    return fail(ErrorCode::kInvalidArgument, "'seed' must be an integer of at most 64 bits");
  }
  seed = value.is_number_unsigned() ? value.get<uint64_t>()
                                    : static_cast<uint64_t>(value.get<int64_t>());
  return {};
}

}  // namespace

Json to_json(const SamplingParameters& parameters) {
  Json json = {{"seed", parameters.seed},
               {"logprobs", parameters.logprobs},
               {"sampler_trace", parameters.sampler_trace},
               {"dry_sequence_breakers", parameters.dry_sequence_breakers}};
  for (const SamplingNumber& field : sampling_numbers())
    json[field.name] = parameters.*field.member;
  for (const SamplingCount& field : sampling_counts()) json[field.name] = parameters.*field.member;
  Json& bias = json["logit_bias"] = Json::array();
  for (const LogitBias& entry : parameters.logit_bias)
    bias.push_back({entry.token, std::isinf(entry.bias) ? Json() : Json(entry.bias)});
  Json& samplers = json["samplers"] = Json::array();
  for (const Sampler sampler : parameters.samplers) samplers.push_back(sampler_name(sampler));
  return json;
}

Result<SamplingParameters> sampling_from_json(const Json& json, uint64_t default_seed) {
  if (!json.is_object()) {
    return fail(ErrorCode::kInvalidArgument, "the sampling parameters must be an object");
  }
  SamplingParameters parameters;
  for (const SamplingNumber& field : sampling_numbers()) {
    SHOAL_TRY(read_number(json, field.name, field.lowest, field.highest, parameters.*field.member));
  }
  for (const SamplingCount& field : sampling_counts()) {
    SHOAL_TRY(read_count(json, field.name, field.lowest, field.highest, parameters.*field.member));
  }
  SHOAL_TRY(read_count(json, "logprobs", -1, kMostLogprobs, parameters.logprobs));
  SHOAL_TRY(read_count(json, "sampler_trace", 0, kMostTraced, parameters.sampler_trace));
  parameters.seed = default_seed;
  SHOAL_TRY(read_seed(json, parameters.seed));
  SHOAL_TRY(read_bias(json, parameters.logit_bias));
  SHOAL_TRY(read_strings(json, "dry_sequence_breakers", parameters.dry_sequence_breakers));
  SHOAL_TRY(check_sequence_breakers(parameters.dry_sequence_breakers));
  std::vector<std::string> names;
  SHOAL_ASSIGN(const bool named, read_strings(json, "samplers", names));
  if (named) {
    SHOAL_ASSIGN(parameters.samplers, samplers_named(names));
  }
  return parameters;
}

}  // namespace shoal
