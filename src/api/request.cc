#include "api/request.h"

#include <charconv>
#include <cmath>
#include <optional>

#include "api/messages.h"

namespace shoal::api {
namespace {

constexpr size_t kMostStops = 16;
constexpr int64_t kMostLogprobs = 20;
constexpr int64_t kMostTokens = int64_t{1} << 31;

// Reads fields of the body; null counts as absent.
class Fields {
 public:
  explicit Fields(const OrderedJson& body) : body_(body) {}

  const OrderedJson* find(const char* name) const {
    const auto field = body_.find(name);
    return field == body_.end() || field->is_null() ? nullptr : &*field;
  }

  // A list of strings; nothing when the field is absent.
  Outcome<std::optional<std::vector<std::string>>> strings(const char* name) const {
    const OrderedJson* field = find(name);
    if (!field) return std::nullopt;
    std::vector<std::string> strings;
    for (const OrderedJson& one : field->is_array() ? *field : OrderedJson::array({nullptr})) {
      if (!one.is_string()) return bad_field(name, "'{}' must be a list of strings", name);
      strings.push_back(one);
    }
    return strings;
  }

  Outcome<bool> boolean(const char* name) const {
    const OrderedJson* field = find(name);
    if (!field) return false;
    if (!field->is_boolean()) return bad_field(name, "'{}' must be true or false", name);
    return field->get<bool>();
  }

  Outcome<int64_t> integer(const char* name, int64_t otherwise, int64_t lowest,
                           int64_t highest) const {
    const OrderedJson* field = find(name);
    if (!field) return otherwise;
    // 16.0 is how some clients write 16.
    std::optional<int64_t> value;
    if (field->is_number_unsigned()) {
      value = static_cast<int64_t>(std::min<uint64_t>(field->get<uint64_t>(), INT64_MAX));
    } else if (field->is_number_integer()) {
      value = field->get<int64_t>();
    } else if (field->is_number_float() && std::abs(field->get<double>()) < 1e15 &&
               std::floor(field->get<double>()) == field->get<double>()) {
      value = static_cast<int64_t>(field->get<double>());
    }
    if (!value) return bad_field(name, "'{}' must be an integer", name);
    if (*value < lowest || *value > highest) {
      return bad_field(name, "'{}' must be from {} to {}, not {}", name, lowest, highest, *value);
    }
    return *value;
  }

  Outcome<double> number(const char* name, double otherwise, double lowest, double highest) const {
    const OrderedJson* field = find(name);
    if (!field) return otherwise;
    if (!field->is_number()) return bad_field(name, "'{}' must be a number", name);
    const double value = field->get<double>();
    if (!(value >= lowest && value <= highest)) {
      return bad_field(name, "'{}' must be from {} to {}, not {}", name, lowest, highest, value);
    }
    return value;
  }

 private:
  const OrderedJson& body_;
};

Outcome<OrderedJson> parse_body(std::string_view text) {
  auto body = parse_ordered_json(text);
  if (!body) {
    return std::unexpected(
        ApiError{400, "the body is " + body.error().message, "", "invalid_json", ""});
  }
  if (!body->is_object()) return bad_field("", "the body must be a JSON object");
  return std::move(*body);
}

Outcome<std::vector<std::string>> parse_stops(const Fields& fields) {
  std::vector<std::string> stops;
  const OrderedJson* field = fields.find("stop");
  if (!field) return stops;
  const OrderedJson list = field->is_string() ? OrderedJson::array({*field}) : *field;
  if (!list.is_array()) return bad_field("stop", "'stop' must be a string or a list of strings");
  if (list.size() > kMostStops) {
    return bad_field("stop", "'stop' holds {} strings, at most {} are possible", list.size(),
                     kMostStops);
  }
  for (const OrderedJson& stop : list) {
    if (!stop.is_string()) {
      return bad_field("stop", "'stop' must be a string or a list of strings");
    }
    if (!stop.get_ref<const std::string&>().empty()) stops.push_back(stop);
  }
  return stops;
}

Outcome<std::vector<int32_t>> parse_token_ids(const OrderedJson& list, const char* name) {
  std::vector<int32_t> tokens;
  tokens.reserve(list.size());
  for (const OrderedJson& token : list) {
    if (!token.is_number_unsigned() || token.get<uint64_t>() > INT32_MAX) {
      return bad_field(name, "'{}' must hold token ids: integers from 0 to {}", name, INT32_MAX);
    }
    tokens.push_back(token.get<int32_t>());
  }
  return tokens;
}

// The token of a bias: a number, or its digits, which is all that a key of an object can be.
std::optional<int32_t> token_of(const OrderedJson& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() <= INT32_MAX) return value.get<int32_t>();
  if (!value.is_string()) return std::nullopt;
  const auto& digits = value.get_ref<const std::string&>();
  int32_t token = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), token);
  if (error != std::errc() || end != digits.data() + digits.size() || token < 0)
    return std::nullopt;
  return token;
}

// OpenAI's object from token ids to numbers, or llama.cpp's list of pairs, where false forbids.
Outcome<std::vector<LogitBias>> parse_bias(const Fields& fields) {
  std::vector<LogitBias> biases;
  const OrderedJson* field = fields.find("logit_bias");
  if (!field) return biases;
  const auto wrong = [] {
    return bad_field("logit_bias",
                     "'logit_bias' must be an object from token ids to numbers from {} to {}, or a "
                     "list of pairs [token id, number or false]",
                     -kHighestBias, kHighestBias);
  };
  const auto add = [&](const OrderedJson& name, const OrderedJson& value) {
    const std::optional<int32_t> token = token_of(name);
    const bool forbidden = value.is_boolean() && !value.get<bool>();
    if (!token || !(forbidden || value.is_number())) return false;
    biases.push_back({*token, forbidden ? -std::numeric_limits<float>::infinity()
                                        : static_cast<float>(value.get<double>())});
    return true;
  };
  if (!field->is_object() && !field->is_array()) return wrong();
  for (const auto& [key, value] : field->items()) {
    if (field->is_object()) {
      if (!add(key, value)) return wrong();
    } else if (!value.is_array() || value.size() != 2 || !add(value[0], value[1])) {
      return wrong();
    }
  }
  if (const Status checked = check_biases(biases); !checked)
    return bad_field("logit_bias", "{}", checked.error().message);
  return biases;
}

Outcome<void> parse_lists(const Fields& fields, SamplingParameters& sampling) {
  SHOAL_ASSIGN(auto breakers, fields.strings("dry_sequence_breakers"));
  if (breakers) {
    if (const Status checked = check_sequence_breakers(*breakers); !checked)
      return bad_field("dry_sequence_breakers", "{}", checked.error().message);
    sampling.dry_sequence_breakers = std::move(*breakers);
  }
  SHOAL_ASSIGN(const auto names, fields.strings("samplers"));
  if (names) {
    Result<std::vector<Sampler>> samplers = samplers_named(*names);
    if (!samplers) return bad_field("samplers", "{}", samplers.error().message);
    sampling.samplers = std::move(*samplers);
  }
  return {};
}

// `named`: the numbers that the request gives, whatever the model recommends.
Outcome<SamplingParameters> parse_sampling(const Fields& fields, uint64_t default_seed,
                                           std::vector<std::string>& named) {
  SamplingParameters sampling;
  const auto note = [&](const char* name) {
    if (fields.find(name)) named.emplace_back(name);
  };
  for (const SamplingNumber& field : sampling_numbers()) {
    note(field.name);
    double& value = sampling.*field.member;
    SHOAL_ASSIGN(value, fields.number(field.name, value, field.lowest, field.highest));
  }
  for (const SamplingCount& field : sampling_counts()) {
    note(field.name);
    int64_t& value = sampling.*field.member;
    // -1 is how some clients write "all" for top_k.
    const int64_t lowest = field.member == &SamplingParameters::top_k ? -1 : field.lowest;
    SHOAL_ASSIGN(value, fields.integer(field.name, value, lowest, field.highest));
  }
  sampling.top_k = std::max<int64_t>(sampling.top_k, 0);
  SHOAL_ASSIGN(sampling.sampler_trace, fields.integer("sampler_trace", 0, 0, kMostTraced));
  SHOAL_ASSIGN(sampling.logit_bias, parse_bias(fields));
  SHOAL_TRY(parse_lists(fields, sampling));
  sampling.seed = default_seed;
  if (const OrderedJson* seed = fields.find("seed")) {
    if (!seed->is_number_integer()) return bad_field("seed", "'seed' must be an integer");
    sampling.seed = seed->is_number_unsigned() ? seed->get<uint64_t>()
                                               : static_cast<uint64_t>(seed->get<int64_t>());
  }
  return sampling;
}

// What would change the answer and cannot be honoured is refused rather than ignored.
Outcome<void> refuse_unsupported(const Fields& fields) {
  if (const OrderedJson* format = fields.find("response_format")) {
    if (!format->is_object() || format->value("type", OrderedJson("text")) != "text") {
      return bad_field("response_format",
                       "'response_format' other than {{\"type\":\"text\"}} is not supported");
    }
  }
  if (const OrderedJson* choice = fields.find("tool_choice");
      choice && *choice != "auto" && *choice != "none") {
    return bad_field("tool_choice", "'tool_choice' may be \"auto\" or \"none\" here");
  }
  return {};
}

// What both kinds of request share. The choices are made from the result.
Outcome<GenerateRequest> parse_common(const Fields& fields, uint64_t seed, Question& question) {
  GenerateRequest request;
  const OrderedJson* model = fields.find("model");
  if (!model) return bad_field("model", "'model' is missing; GET /v1/models lists what is here");
  if (!model->is_string() || model->get_ref<const std::string&>().empty()) {
    return bad_field("model", "'model' must be a model's name");
  }
  request.model = question.model = *model;
  SHOAL_ASSIGN(question.stream, fields.boolean("stream"));
  if (const OrderedJson* options = fields.find("stream_options")) {
    if (!options->is_object()) {
      return bad_field("stream_options", "'stream_options' must be an object");
    }
    const auto include = Fields(*options).boolean("include_usage");
    if (!include) {
      return bad_field("stream_options.include_usage",
                       "'stream_options.include_usage' must be true or false");
    }
    question.include_usage = *include;
  }
  SHOAL_TRY(refuse_unsupported(fields));
  SHOAL_ASSIGN(request.sampling, parse_sampling(fields, seed, request.sampling_named));
  SHOAL_ASSIGN(request.stop, parse_stops(fields));
  SHOAL_ASSIGN(request.ignore_end, fields.boolean("ignore_eos"));
  if (const OrderedJson* tokens = fields.find("stop_token_ids")) {
    if (!tokens->is_array()) return bad_field("stop_token_ids", "'stop_token_ids' must be a list");
    SHOAL_ASSIGN(request.stop_tokens, parse_token_ids(*tokens, "stop_token_ids"));
  }
  return request;
}

Outcome<int64_t> parse_max_tokens(const Fields& fields, const char* name, int64_t lowest) {
  SHOAL_ASSIGN(const int64_t most, fields.integer(name, -1, -1, INT64_MAX));
  if (most >= 0 && most < lowest) {
    return bad_field(name, "'{}' must be at least {}, not {}", name, lowest, most);
  }
  return std::min(most, kMostTokens);
}

// `n` answers to each request, told apart by their seeds.
Outcome<void> multiply(const Fields& fields, std::vector<GenerateRequest> requests,
                       Question& question) {
  SHOAL_ASSIGN(const int64_t n, fields.integer("n", 1, 1, kMostChoices));
  if (requests.size() * static_cast<size_t>(n) > kMostChoices) {
    return bad_field("n", "{} prompts with n = {} ask for more than {} choices", requests.size(), n,
                     kMostChoices);
  }
  question.choices_per_prompt = static_cast<size_t>(n);
  for (const GenerateRequest& request : requests) {
    for (int64_t i = 0; i < n; ++i) {
      question.choices.push_back(request);
      question.choices.back().sampling.seed += static_cast<uint64_t>(i);
    }
  }
  return {};
}

Outcome<void> parse_tools(const Fields& fields, GenerateRequest& request) {
  const OrderedJson* tools = fields.find("tools");
  if (!tools) return {};
  if (!tools->is_array()) return bad_field("tools", "'tools' must be a list");
  const OrderedJson* choice = fields.find("tool_choice");
  if (!choice || *choice != "none") request.tools = *tools;
  return {};
}

Outcome<std::vector<GenerateRequest>> parse_prompts(const Fields& fields,
                                                    const GenerateRequest& common) {
  const OrderedJson* prompt = fields.find("prompt");
  if (!prompt) return bad_field("prompt", "'prompt' is missing");
  OrderedJson list = OrderedJson::array();
  if (prompt->is_array() && !prompt->empty() && !prompt->front().is_number()) {
    list = *prompt;
  } else {
    list.push_back(*prompt);
  }
  std::vector<GenerateRequest> requests;
  for (const OrderedJson& one : list) {
    GenerateRequest request = common;
    if (one.is_string()) {
      request.prompt = one;
    } else if (one.is_array() && !one.empty()) {
      SHOAL_ASSIGN(request.prompt_tokens, parse_token_ids(one, "prompt"));
    } else {
      return bad_field("prompt",
                       "'prompt' must be a string, a list of strings, a list of token ids, or a "
                       "list of such lists");
    }
    requests.push_back(std::move(request));
    if (requests.size() > kMostChoices) {
      return bad_field("prompt", "'prompt' holds {} prompts, at most {} are possible", list.size(),
                       kMostChoices);
    }
  }
  return requests;
}

}  // namespace

Outcome<Question> parse_chat(std::string_view text, uint64_t seed) {
  SHOAL_ASSIGN(const OrderedJson body, parse_body(text));
  const Fields fields(body);
  Question question;
  question.chat = true;
  SHOAL_ASSIGN(GenerateRequest request, parse_common(fields, seed, question));
  request.chat = true;
  const OrderedJson* messages = fields.find("messages");
  if (!messages) return bad_field("messages", "'messages' is missing");
  SHOAL_ASSIGN(request.messages, normal_messages(*messages));
  SHOAL_TRY(parse_tools(fields, request));
  if (const OrderedJson* arguments = fields.find("chat_template_kwargs")) {
    if (!arguments->is_object()) {
      return bad_field("chat_template_kwargs", "'chat_template_kwargs' must be an object");
    }
    request.template_arguments = *arguments;
  }
  const bool newer = fields.find("max_completion_tokens");
  SHOAL_ASSIGN(request.max_tokens,
               parse_max_tokens(fields, newer ? "max_completion_tokens" : "max_tokens", 1));
  SHOAL_ASSIGN(question.logprobs, fields.boolean("logprobs"));
  SHOAL_ASSIGN(const int64_t top, fields.integer("top_logprobs", 0, 0, kMostLogprobs));
  if (fields.find("top_logprobs") && !question.logprobs) {
    return bad_field("top_logprobs", "'top_logprobs' needs 'logprobs': true");
  }
  if (question.logprobs) request.sampling.logprobs = top;
  SHOAL_TRY(multiply(fields, {request}, question));
  return question;
}

Outcome<Question> parse_completion(std::string_view text, uint64_t seed) {
  SHOAL_ASSIGN(const OrderedJson body, parse_body(text));
  const Fields fields(body);
  Question question;
  SHOAL_ASSIGN(GenerateRequest common, parse_common(fields, seed, question));
  SHOAL_ASSIGN(common.echo, fields.boolean("echo"));
  SHOAL_ASSIGN(common.max_tokens, parse_max_tokens(fields, "max_tokens", 0));
  SHOAL_ASSIGN(common.sampling.logprobs, fields.integer("logprobs", -1, 0, kMostLogprobs));
  question.logprobs = common.sampling.logprobs >= 0;
  if (const OrderedJson* suffix = fields.find("suffix"); suffix && *suffix != "") {
    return bad_field("suffix", "'suffix' is not supported; leave it out");
  }
  SHOAL_ASSIGN(const int64_t best_of, fields.integer("best_of", 1, 1, kMostChoices));
  if (best_of > 1) return bad_field("best_of", "'best_of' is not supported; leave it out");
  SHOAL_ASSIGN(std::vector<GenerateRequest> requests, parse_prompts(fields, common));
  SHOAL_TRY(multiply(fields, std::move(requests), question));
  return question;
}

}  // namespace shoal::api
