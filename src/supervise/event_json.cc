#include <array>
#include <cmath>
#include <utility>

#include "supervise/fields.h"
#include "supervise/protocol.h"

namespace shoal {
namespace {

constexpr std::array kKindNames = {
    std::pair{Event::Kind::kAccepted, "accepted"},
    std::pair{Event::Kind::kToken, "token"},
    std::pair{Event::Kind::kDone, "done"},
    std::pair{Event::Kind::kError, "error"},
};

// A token's bytes may be half a character, which JSON text cannot hold: a list of numbers, as
// OpenAI's API has it.
Json bytes_to_json(const std::string& bytes) {
  Json list = Json::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

Status take_bytes(Fields<Json>& fields, std::string& bytes) {
  std::vector<int32_t> numbers;
  SHOAL_TRY(fields.take_list("bytes", numbers));
  for (const int32_t number : numbers) {
    if (number < 0 || number > 255) {
      return fail(ErrorCode::kInvalidArgument, "event: 'bytes' holds {}", number);
    }
    bytes += static_cast<char>(number);
  }
  return {};
}

Json logprob_to_json(const TokenLogprob& value, bool with_alternatives) {
  Json json = {{"token", value.token}, {"bytes", bytes_to_json(value.bytes)}};
  json["logprob"] = std::isfinite(value.logprob) ? Json(value.logprob) : Json();
  if (!with_alternatives) return json;
  Json& alternatives = json["alternatives"] = Json::array();
  for (const TokenLogprob& other : value.alternatives) {
    alternatives.push_back(logprob_to_json(other, false));
  }
  return json;
}

// Alternatives have none of their own.
Result<TokenLogprob> logprob_from_json(const Json& json, bool with_alternatives) {
  Fields<Json> fields(json, "log probability");
  TokenLogprob value;
  SHOAL_TRY(fields.take_from("token", 0, value.token));
  SHOAL_TRY(take_bytes(fields, value.bytes));
  SHOAL_ASSIGN(const Json* logprob, fields.member("logprob"));
  if (!logprob->is_null() && !logprob->is_number()) return fields.wrong_type("logprob");
  value.logprob = logprob->is_null() ? std::nan("") : logprob->get<double>();
  if (with_alternatives) {
    SHOAL_ASSIGN(const Json* alternatives, fields.member("alternatives"));
    if (!alternatives->is_array()) return fields.wrong_type("alternatives");
    for (const Json& other : *alternatives) {
      SHOAL_ASSIGN(value.alternatives.emplace_back(), logprob_from_json(other, false));
    }
  }
  SHOAL_TRY(fields.finish());
  return value;
}

Json sampler_to_json(const SamplerReport& report) {
  Json json = {{"name", report.name}, {"kept", report.kept}};
  Json& best = json["best"] = Json::array();
  for (const SamplerReport::Candidate& one : report.best) {
    best.push_back({{"token", one.token},
                    {"bytes", bytes_to_json(one.bytes)},
                    {"before", one.before},
                    {"after", one.after}});
  }
  return json;
}

Result<SamplerReport> sampler_from_json(const Json& json) {
  Fields<Json> fields(json, "sampler's report");
  SamplerReport report;
  SHOAL_TRY(fields.take("name", report.name));
  SHOAL_TRY(fields.take_from("kept", int64_t{0}, report.kept));
  SHOAL_ASSIGN(const Json* best, fields.member("best"));
  if (!best->is_array()) return fields.wrong_type("best");
  for (const Json& one : *best) {
    Fields<Json> candidate(one, "sampler's candidate");
    SamplerReport::Candidate& value = report.best.emplace_back();
    SHOAL_TRY(candidate.take_from("token", 0, value.token));
    SHOAL_TRY(take_bytes(candidate, value.bytes));
    SHOAL_TRY(candidate.take_from("before", 0.0, value.before));
    SHOAL_TRY(candidate.take_from("after", 0.0, value.after));
    SHOAL_TRY(candidate.finish());
  }
  SHOAL_TRY(fields.finish());
  return report;
}

Json timings_to_json(const Timings& timings) {
  return {{"queue_s", timings.queue_s},
          {"prefill_s", timings.prefill_s},
          {"decode_s", timings.decode_s},
          {"prompt_tokens", timings.prompt_tokens},
          {"output_tokens", timings.output_tokens}};
}

Result<Timings> timings_from_json(const Json& json) {
  Fields<Json> fields(json, "timings");
  Timings timings;
  SHOAL_TRY(fields.take_from("queue_s", 0.0, timings.queue_s));
  SHOAL_TRY(fields.take_from("prefill_s", 0.0, timings.prefill_s));
  SHOAL_TRY(fields.take_from("decode_s", 0.0, timings.decode_s));
  SHOAL_TRY(fields.take_from("prompt_tokens", int64_t{0}, timings.prompt_tokens));
  SHOAL_TRY(fields.take_from("output_tokens", int64_t{0}, timings.output_tokens));
  SHOAL_TRY(fields.finish());
  return timings;
}

Status take_accepted(Fields<Json>& fields, Event& event) {
  SHOAL_TRY(fields.take_from("prompt_tokens", int64_t{0}, event.prompt_tokens));
  SHOAL_TRY(fields.take("prompt_text", event.prompt_text));
  SHOAL_ASSIGN(const Json* logprobs, fields.member("prompt_logprobs"));
  if (!logprobs->is_array()) return fields.wrong_type("prompt_logprobs");
  for (const Json& one : *logprobs) {
    SHOAL_ASSIGN(event.prompt_logprobs.emplace_back(), logprob_from_json(one, true));
  }
  SHOAL_ASSIGN(const Json* defaults, fields.member("sampling_defaults"));
  auto taken = sampling_defaults_from_json(*defaults);
  if (!taken) return std::unexpected(taken.error().within("event: sampling_defaults"));
  event.sampling_defaults = std::move(*taken);
  return {};
}

Status take_token(Fields<Json>& fields, Event& event) {
  SHOAL_TRY(fields.take_from("number", int64_t{0}, event.number));
  SHOAL_TRY(fields.take_from("token", 0, event.token));
  SHOAL_TRY(fields.take("text", event.text));
  SHOAL_ASSIGN(const Json* logprob, fields.member("logprob"));
  if (!logprob->is_null()) {
    SHOAL_ASSIGN(event.logprob, logprob_from_json(*logprob, true));
  }
  SHOAL_ASSIGN(const Json* samplers, fields.member("samplers"));
  if (!samplers->is_array()) return fields.wrong_type("samplers");
  for (const Json& one : *samplers) {
    SHOAL_ASSIGN(event.samplers.emplace_back(), sampler_from_json(one));
  }
  return {};
}

Status take_done(Fields<Json>& fields, Event& event) {
  SHOAL_TRY(fields.take("finish_reason", event.finish_reason));
  if (event.finish_reason != "stop" && event.finish_reason != "length") {
    return fail(ErrorCode::kInvalidArgument, "event: '{}' is not a finish_reason",
                event.finish_reason);
  }
  SHOAL_ASSIGN(const Json* timings, fields.member("timings"));
  SHOAL_ASSIGN(event.timings, timings_from_json(*timings));
  return {};
}

Status take_error(Fields<Json>& fields, Event& event) {
  std::string code;
  SHOAL_TRY(fields.take("code", code));
  event.error.code = error_code_named(code);
  if (error_name(event.error.code) != code) {
    return fail(ErrorCode::kInvalidArgument, "event: '{}' is not an error's code", code);
  }
  return fields.take("message", event.error.message);
}

Status take_body(Fields<Json>& fields, Event& event) {
  switch (event.kind) {
    case Event::Kind::kAccepted:
      return take_accepted(fields, event);
    case Event::Kind::kToken:
      return take_token(fields, event);
    case Event::Kind::kDone:
      return take_done(fields, event);
    case Event::Kind::kError:
      return take_error(fields, event);
  }
  return {};
}

}  // namespace

Json to_json(const Event& event) {
  Json json;
  for (const auto& [kind, name] : kKindNames) {
    if (kind == event.kind) json["kind"] = name;
  }
  switch (event.kind) {
    case Event::Kind::kAccepted: {
      json["prompt_tokens"] = event.prompt_tokens;
      json["prompt_text"] = event.prompt_text;
      Json& logprobs = json["prompt_logprobs"] = Json::array();
      for (const auto& one : event.prompt_logprobs) logprobs.push_back(logprob_to_json(one, true));
      json["sampling_defaults"] = to_json(event.sampling_defaults);
      break;
    }
    case Event::Kind::kToken: {
      json["number"] = event.number;
      json["token"] = event.token;
      json["text"] = event.text;
      json["logprob"] = event.logprob ? logprob_to_json(*event.logprob, true) : Json();
      Json& samplers = json["samplers"] = Json::array();
      for (const SamplerReport& report : event.samplers)
        samplers.push_back(sampler_to_json(report));
      break;
    }
    case Event::Kind::kDone:
      json["finish_reason"] = event.finish_reason;
      json["timings"] = timings_to_json(event.timings);
      break;
    case Event::Kind::kError:
      json["code"] = error_name(event.error.code);
      json["message"] = event.error.message;
      break;
  }
  return json;
}

Result<Event> event_from_json(const Json& json) {
  Fields<Json> fields(json, "event");
  std::string kind_name;
  SHOAL_TRY(fields.take("kind", kind_name));
  for (const auto& [kind, name] : kKindNames) {
    if (kind_name != name) continue;
    Event event;
    event.kind = kind;
    SHOAL_TRY(take_body(fields, event));
    SHOAL_TRY(fields.finish());
    return event;
  }
  return fail(ErrorCode::kInvalidArgument, "event: '{}' is not a kind", kind_name);
}

double Timings::prefill_tokens_per_s() const {
  return prefill_s > 0 ? static_cast<double>(prompt_tokens) / prefill_s : 0;
}

double Timings::decode_tokens_per_s() const {
  return decode_s > 0 && output_tokens > 1 ? static_cast<double>(output_tokens - 1) / decode_s : 0;
}

}  // namespace shoal
