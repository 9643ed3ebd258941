#include "sampling/defaults.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace shoal {
namespace {

constexpr std::string_view kPrefix = "general.sampling.";

struct FileKey {
  std::string_view key;  // behind the prefix
  const char* name;
};
// Where the two names differ.
constexpr std::array kFileKeys = {
    FileKey{"temp", "temperature"},
    FileKey{"penalty_last_n", "repeat_last_n"},
    FileKey{"penalty_repeat", "repeat_penalty"},
};

// kInvalidArgument for a name that is none, or a value that the API would refuse too.
Status set(SamplingParameters& parameters, std::string_view name, double value) {
  const auto outside = [&](double lowest, double highest) {
    return fail(ErrorCode::kInvalidArgument, "'{}' must be from {} to {}, not {}", name, lowest,
                highest, value);
  };
  for (const SamplingNumber& field : sampling_numbers()) {
    if (field.name != name) continue;
    if (!(value >= field.lowest && value <= field.highest))
      return outside(field.lowest, field.highest);
    parameters.*field.member = value;
    return {};
  }
  for (const SamplingCount& field : sampling_counts()) {
    if (field.name != name) continue;
    const auto lowest = static_cast<double>(field.lowest);
    const auto highest = static_cast<double>(field.highest);
    if (!(value >= lowest && value <= highest) || value != std::floor(value))
      return outside(lowest, highest);
    parameters.*field.member = static_cast<int64_t>(value);
    return {};
  }
  return fail(ErrorCode::kInvalidArgument, "'{}' is no parameter of the sampler", name);
}

bool is_parameter(std::string_view name) {
  const auto has_name = [&](const auto& field) { return field.name == name; };
  return std::ranges::any_of(sampling_numbers(), has_name) ||
         std::ranges::any_of(sampling_counts(), has_name);
}

// The number that a person wrote: 0.95, where a float of the file is 0.949999988.
double as_written(const gguf::Value& value, double number) {
  if (!std::holds_alternative<float>(value)) return number;
  const std::string text = fmt::format("{}", std::get<float>(value));
  double written = number;
  std::from_chars(text.data(), text.data() + text.size(), written);
  return written;
}

const SamplingDefault* named(std::span<const SamplingDefault> defaults, std::string_view name) {
  const auto found = std::ranges::find(defaults, name, &SamplingDefault::name);
  return found == defaults.end() ? nullptr : &*found;
}

}  // namespace

Json to_json(std::span<const SamplingDefault> defaults) {
  Json list = Json::array();
  for (const SamplingDefault& one : defaults)
    list.push_back({{"name", one.name}, {"value", one.value}, {"from", one.from}});
  return list;
}

Result<std::vector<SamplingDefault>> sampling_defaults_from_json(const Json& json) {
  if (!json.is_array())
    return fail(ErrorCode::kInvalidArgument, "the sampling defaults must be a list");
  std::vector<SamplingDefault> defaults;
  SamplingParameters checked;
  for (const Json& item : json) {
    SamplingDefault& one = defaults.emplace_back();
    SHOAL_ASSIGN(one.name, json_field<std::string>(item, "name"));
    SHOAL_ASSIGN(one.value, json_field<double>(item, "value"));
    SHOAL_ASSIGN(one.from, json_field<std::string>(item, "from"));
    SHOAL_TRY(set(checked, one.name, one.value));
  }
  return defaults;
}

std::string sampling_defaults_text(std::span<const SamplingDefault> defaults) {
  std::string text;
  for (size_t i = 0; i < defaults.size(); ++i) {
    text += fmt::format("{}{} {}", i > 0 ? ", " : "", defaults[i].name, defaults[i].value);
    const bool last_of_its_source =
        i + 1 == defaults.size() || defaults[i + 1].from != defaults[i].from;
    if (last_of_its_source) text += fmt::format(" ({})", defaults[i].from);
  }
  return text;
}

FileSampling sampling_of_file(const gguf::File& file) {
  FileSampling found;
  SamplingParameters checked;
  for (const auto& [key, value] : file.metadata()) {
    if (!key.starts_with(kPrefix)) continue;
    std::string name(key.substr(kPrefix.size()));
    for (const FileKey& other : kFileKeys) {
      if (name == other.key) name = other.name;
    }
    const Result<double> number = file.number(key);
    const double written = number ? as_written(value, *number) : 0;
    const Status usable = set(checked, name, written);
    if (number && usable) {
      found.defaults =
          merged(std::move(found.defaults), std::array{SamplingDefault{name, written, "file"}});
    } else {
      found.ignored.push_back(fmt::format("{} is not used: {}", gguf::printable(key),
                                          !is_parameter(name)
                                              ? "Shoal's sampler has none of that name"
                                          : !number ? "it is not a number"
                                                    : usable.error().message));
    }
  }
  return found;
}

std::vector<SamplingDefault> merged(std::vector<SamplingDefault> first,
                                    std::span<const SamplingDefault> second) {
  for (const SamplingDefault& one : second) {
    if (!named(first, one.name)) first.push_back(one);
  }
  return first;
}

std::vector<SamplingDefault> apply(std::span<const SamplingDefault> defaults,
                                   std::span<const std::string> named,
                                   SamplingParameters& parameters) {
  const auto names = [&](std::string_view name) {
    return std::ranges::find(named, name) != named.end();
  };
  std::vector<SamplingDefault> applied;
  if (names("temperature") && parameters.temperature == 0) return applied;
  for (const SamplingDefault& one : defaults) {
    if (!names(one.name) && set(parameters, one.name, one.value)) applied.push_back(one);
  }
  return applied;
}

}  // namespace shoal
