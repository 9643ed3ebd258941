#include "api/answer.h"

#include <cmath>

namespace shoal::api {
namespace {

OrderedJson usage_json(const Usage& usage) {
  OrderedJson json;
  json["prompt_tokens"] = usage.prompt_tokens;
  json["completion_tokens"] = usage.completion_tokens;
  json["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  return json;
}

// The names that llama.cpp's server uses, so that its clients show them.
OrderedJson timings_json(const Timings& timings) {
  OrderedJson json;
  json["queue_ms"] = timings.queue_s * 1000;
  json["prompt_n"] = timings.prompt_tokens;
  json["prompt_ms"] = timings.prefill_s * 1000;
  json["prompt_per_second"] = timings.prefill_tokens_per_s();
  json["predicted_n"] = timings.output_tokens;
  json["predicted_ms"] = timings.decode_s * 1000;
  json["predicted_per_second"] = timings.decode_tokens_per_s();
  return json;
}

// JSON has no infinity; this is OpenAI's number for "as good as impossible".
OrderedJson logprob_json(double logprob) {
  if (std::isnan(logprob)) return nullptr;
  return std::isinf(logprob) ? -9999.0 : logprob;
}

OrderedJson bytes_json(const std::string& bytes) {
  OrderedJson list = OrderedJson::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

OrderedJson chat_token(const TokenLogprob& token) {
  OrderedJson json;
  json["token"] = token.bytes;
  json["logprob"] = logprob_json(token.logprob);
  json["bytes"] = bytes_json(token.bytes);
  return json;
}

OrderedJson chat_logprobs(const std::vector<TokenLogprob>& tokens) {
  OrderedJson content = OrderedJson::array();
  for (const TokenLogprob& token : tokens) {
    OrderedJson json = chat_token(token);
    json["top_logprobs"] = OrderedJson::array();
    for (const TokenLogprob& other : token.alternatives) {
      json["top_logprobs"].push_back(chat_token(other));
    }
    content.push_back(std::move(json));
  }
  OrderedJson json;
  json["content"] = std::move(content);
  json["refusal"] = nullptr;
  return json;
}

// Text that can be a key: bytes that are no UTF-8 by themselves are spelled out, so that two halves
// of characters stay two keys.
std::string token_text(const std::string& bytes) {
  const std::string dumped = dump_json(OrderedJson(bytes));
  const auto back = parse_ordered_json(dumped);
  if (back && *back == bytes) return bytes;
  std::string text = "bytes:";
  for (const char byte : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return text;
}

OrderedJson completion_logprobs(const std::vector<TokenLogprob>& tokens, int64_t text_before) {
  OrderedJson json;
  json["tokens"] = OrderedJson::array();
  json["token_logprobs"] = OrderedJson::array();
  json["top_logprobs"] = OrderedJson::array();
  json["text_offset"] = OrderedJson::array();
  for (const TokenLogprob& token : tokens) {
    json["tokens"].push_back(token_text(token.bytes));
    json["token_logprobs"].push_back(logprob_json(token.logprob));
    OrderedJson top = OrderedJson::object();
    for (const TokenLogprob& other : token.alternatives) {
      top[token_text(other.bytes)] = logprob_json(other.logprob);
    }
    json["top_logprobs"].push_back(std::isnan(token.logprob) ? OrderedJson(nullptr)
                                                             : std::move(top));
    json["text_offset"].push_back(text_before);
    text_before += character_count(token.bytes);
  }
  return json;
}

// What `sampler_trace` asks for: what the model's recommendations set, and a list of stages for
// each token. The fields are ours.
void add_samplers(const Choice& from, OrderedJson& choice) {
  if (from.sampling_defaults)
    choice["sampling_defaults"] = OrderedJson(to_json(*from.sampling_defaults));
  const std::vector<std::vector<SamplerReport>>& tokens = from.samplers;
  if (tokens.empty()) return;
  OrderedJson& list = choice["samplers"] = OrderedJson::array();
  for (const std::vector<SamplerReport>& token : tokens) {
    OrderedJson stages = OrderedJson::array();
    for (const SamplerReport& report : token) {
      OrderedJson stage;
      stage["name"] = report.name;
      stage["kept"] = report.kept;
      stage["best"] = OrderedJson::array();
      for (const SamplerReport::Candidate& one : report.best) {
        OrderedJson candidate;
        candidate["token"] = token_text(one.bytes);
        candidate["id"] = one.token;
        candidate["before"] = one.before;
        candidate["after"] = one.after;
        stage["best"].push_back(std::move(candidate));
      }
      stages.push_back(std::move(stage));
    }
    list.push_back(std::move(stages));
  }
}

}  // namespace

int64_t character_count(std::string_view bytes) {
  int64_t count = 0;
  for (const char byte : bytes) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

AnswerShape::AnswerShape(const Question& question, const std::string& id_random, int64_t created_s)
    : id_((question.chat ? "chatcmpl-" : "cmpl-") + id_random),
      model_(question.model),
      created_s_(created_s),
      chat_(question.chat),
      logprobs_(question.logprobs),
      include_usage_(question.include_usage) {}

OrderedJson AnswerShape::head(const char* chat_object) const {
  OrderedJson json;
  json["id"] = id_;
  json["object"] = chat_ ? chat_object : "text_completion";
  json["created"] = created_s_;
  json["model"] = model_;
  return json;
}

OrderedJson AnswerShape::logprobs_json(const std::vector<TokenLogprob>& tokens,
                                       int64_t text_before) const {
  if (!logprobs_) return nullptr;
  return chat_ ? chat_logprobs(tokens) : completion_logprobs(tokens, text_before);
}

OrderedJson AnswerShape::whole(const std::vector<Choice>& choices, const Usage& usage,
                               const Timings* timings) const {
  OrderedJson json = head("chat.completion");
  json["choices"] = OrderedJson::array();
  for (size_t i = 0; i < choices.size(); ++i) {
    OrderedJson choice;
    choice["index"] = i;
    if (chat_) {
      choice["message"]["role"] = "assistant";
      choice["message"]["content"] = choices[i].text;
    } else {
      choice["text"] = choices[i].text;
    }
    choice["logprobs"] = logprobs_json(choices[i].logprobs, 0);
    add_samplers(choices[i], choice);
    choice["finish_reason"] = choices[i].finish_reason;
    json["choices"].push_back(std::move(choice));
  }
  json["usage"] = usage_json(usage);
  if (timings) json["timings"] = timings_json(*timings);
  return json;
}

OrderedJson AnswerShape::chunk(OrderedJson choice) const {
  OrderedJson json = head("chat.completion.chunk");
  json["choices"] = OrderedJson::array();
  if (!choice.is_null()) json["choices"].push_back(std::move(choice));
  if (include_usage_) json["usage"] = nullptr;
  return json;
}

OrderedJson AnswerShape::first_chunk(size_t index) const {
  OrderedJson choice;
  choice["index"] = index;
  choice["delta"]["role"] = "assistant";
  choice["delta"]["content"] = "";
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = nullptr;
  return chunk(std::move(choice));
}

OrderedJson AnswerShape::text_chunk(size_t index, const Choice& piece, int64_t text_before) const {
  OrderedJson choice;
  choice["index"] = index;
  if (chat_) {
    choice["delta"]["content"] = piece.text;
  } else {
    choice["text"] = piece.text;
  }
  choice["logprobs"] = logprobs_json(piece.logprobs, text_before);
  add_samplers(piece, choice);
  choice["finish_reason"] = nullptr;
  return chunk(std::move(choice));
}

OrderedJson AnswerShape::last_chunk(size_t index, const std::string& finish_reason,
                                    const Timings* timings) const {
  OrderedJson choice;
  choice["index"] = index;
  if (chat_) {
    choice["delta"] = OrderedJson::object();
  } else {
    choice["text"] = "";
  }
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = finish_reason;
  OrderedJson json = chunk(std::move(choice));
  if (timings) json["timings"] = timings_json(*timings);
  return json;
}

OrderedJson AnswerShape::usage_chunk(const Usage& usage) const {
  OrderedJson json = chunk(nullptr);
  json["usage"] = usage_json(usage);
  return json;
}

}  // namespace shoal::api
