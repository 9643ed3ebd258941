#include "supervise/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace shoal {
namespace {

using ::testing::HasSubstr;

// Through text, as on the wire.
template <typename J>
J through_text(const J& json) {
  return J::parse(dump_json(json));
}

GenerateRequest full_request() {
  GenerateRequest request;
  request.model = "smollm2:135m";
  request.chat = true;
  request.messages = OrderedJson::parse(R"([{"role":"user","content":"hé \u0000","a":1}])");
  request.tools = OrderedJson::parse(R"([{"z":1,"a":{"y":2,"b":3}}])");
  request.template_arguments = OrderedJson::parse(R"({"thinking":true,"also":null})");
  request.prompt = "Once";
  request.prompt_tokens = {0, 5, 2147483647};
  request.echo = true;
  request.max_tokens = 77;
  request.sampling.temperature = 0.25;
  request.sampling.seed = 0xfedcba9876543210;
  request.sampling.logprobs = 3;
  request.sampling.repeat_penalty = 1.125;
  request.sampling.dry_sequence_breakers = {"\n", "a\0b"};
  request.sampling.logit_bias = {{5, -INFINITY}, {6, 0.1F}};
  request.sampling.samplers = {Sampler::kXtc, Sampler::kTemperature};
  request.sampling.sampler_trace = 5;
  request.sampling_named = {"temperature", "repeat_penalty"};
  request.stop = {"\n\n", "END"};
  request.stop_tokens = {2};
  request.ignore_end = true;
  return request;
}

TEST(RequestJson, ComesBackAsItWent) {
  const GenerateRequest request = full_request();
  const OrderedJson json = to_json(request);
  const auto back = generate_request_from_json(through_text(json));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_json(*back).dump(), json.dump());
  EXPECT_EQ(back->messages.dump(), request.messages.dump());
  EXPECT_EQ(back->tools.dump(), R"([{"z":1,"a":{"y":2,"b":3}}])") << "the order reaches the prompt";
  EXPECT_EQ(back->sampling.seed, request.sampling.seed);
  EXPECT_EQ(back->sampling.repeat_penalty, 1.125);
  EXPECT_EQ(back->sampling.dry_sequence_breakers, request.sampling.dry_sequence_breakers);
  EXPECT_EQ(back->sampling.logit_bias[0].bias, -INFINITY);
  EXPECT_EQ(back->sampling.logit_bias[1].bias, 0.1F);
  EXPECT_EQ(back->sampling.samplers, request.sampling.samplers);
  EXPECT_EQ(back->sampling.sampler_trace, 5);
  EXPECT_EQ(back->sampling_named, request.sampling_named);
  EXPECT_EQ(back->prompt_tokens, request.prompt_tokens);
  EXPECT_EQ(back->max_tokens, 77);
  const GenerateRequest nothing;
  EXPECT_TRUE(generate_request_from_json(to_json(nothing)));
}

TEST(RequestJson, EveryFieldIsNeededAndNamed) {
  const OrderedJson good = to_json(full_request());
  for (const auto& [name, value] : good.items()) {
    OrderedJson without = good;
    without.erase(name);
    const auto missing = generate_request_from_json(without);
    ASSERT_FALSE(missing) << name;
    EXPECT_EQ(missing.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(missing.error().message, HasSubstr("'" + name + "'"));
    OrderedJson wrong = good;
    wrong[name] = value.is_array() ? OrderedJson(1.5) : OrderedJson::array({nullptr});
    const auto mistyped = generate_request_from_json(wrong);
    ASSERT_FALSE(mistyped) << name;
    EXPECT_THAT(mistyped.error().message, HasSubstr(name));
  }
}

TEST(RequestJson, ValuesOutOfRangeAreNamed) {
  const OrderedJson good = to_json(full_request());
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"max_tokens", "-2"},
      {"max_tokens", "1e3"},
      {"prompt_tokens", "[-1]"},
      {"prompt_tokens", "[2147483648]"},
      {"stop_tokens", "[18446744073709551615]"},
      {"stop", "[1]"},
      {"messages", "{}"},
      {"template_arguments", "[]"},
      {"model", "null"},
      {"chat", "1"}};
  for (const auto& [name, text] : cases) {
    OrderedJson bad = good;
    bad[name] = OrderedJson::parse(text);
    const auto read = generate_request_from_json(bad);
    ASSERT_FALSE(read) << name << " " << text;
    EXPECT_THAT(read.error().message, HasSubstr(name));
  }
  OrderedJson more = good;
  more["new_field"] = 1;
  EXPECT_FALSE(generate_request_from_json(more));
  for (const char* text : {"null", "[]", "1", "\"x\""}) {
    EXPECT_FALSE(generate_request_from_json(OrderedJson::parse(text))) << text;
  }
}

TEST(EventJson, WhatTheModelRecommendedComesBackAsItWent) {
  Event event;
  event.kind = Event::Kind::kAccepted;
  event.sampling_defaults = {{"temperature", 0.2, "catalogue"}, {"top_k", 20, "file"}};
  const Json json = to_json(event);
  const auto back = event_from_json(through_text(json));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->sampling_defaults, event.sampling_defaults);
  Json bad = json;
  bad["sampling_defaults"][0]["value"] = "warm";
  const auto refused = event_from_json(bad);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("sampling_defaults"));
}

TEST(EventJson, WhatSamplersLeftComesBackAsItWent) {
  Event event;
  event.samplers = {{"model", 49152, {{7, "\xc3", 0.25, 0.25}, {8, "x", 0.125, 0.125}}},
                    {"draw", 1, {{7, "\xc3", 0.25, 1}}}};
  const Json json = to_json(event);
  const auto back = event_from_json(through_text(json));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_json(*back), json);
  ASSERT_EQ(back->samplers.size(), 2u);
  EXPECT_EQ(back->samplers[0].best[0].bytes, "\xc3");
  EXPECT_EQ(back->samplers[0].kept, 49152);
  for (const char* name : {"name", "kept", "best"}) {
    Json bad = json;
    bad["samplers"][0].erase(name);
    const auto refused = event_from_json(bad);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr(name));
  }
}

TEST(EventJson, TokensKeepTheirBytesEvenHalfACharacter) {
  Event event;
  event.kind = Event::Kind::kToken;
  event.number = 12;
  event.token = 345;
  event.text = "ä";
  event.logprob = TokenLogprob{345, "\xc3", -0.5, {{1, std::string("\x00\xff", 2), -1.25, {}}}};
  const auto back = event_from_json(through_text(to_json(event)));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->kind, Event::Kind::kToken);
  EXPECT_EQ(back->number, 12);
  EXPECT_EQ(back->token, 345);
  EXPECT_EQ(back->text, "ä");
  ASSERT_TRUE(back->logprob);
  EXPECT_EQ(back->logprob->bytes, "\xc3");
  EXPECT_EQ(back->logprob->logprob, -0.5);
  ASSERT_EQ(back->logprob->alternatives.size(), 1u);
  EXPECT_EQ(back->logprob->alternatives[0].bytes, std::string("\x00\xff", 2));
}

TEST(EventJson, AnEchoedPromptsFirstTokenHasNoLogProbability) {
  Event event;
  event.kind = Event::Kind::kAccepted;
  event.prompt_tokens = 2;
  event.prompt_text = "Hi";
  event.prompt_logprobs = {{7, "H", std::nan(""), {}}, {8, "i", -2.0, {}}};
  const Json json = through_text(to_json(event));
  EXPECT_TRUE(json["prompt_logprobs"][0]["logprob"].is_null());
  const auto back = event_from_json(json);
  ASSERT_TRUE(back) << back.error().message;
  ASSERT_EQ(back->prompt_logprobs.size(), 2u);
  EXPECT_TRUE(std::isnan(back->prompt_logprobs[0].logprob));
  EXPECT_EQ(back->prompt_logprobs[1].logprob, -2.0);
  EXPECT_EQ(back->prompt_text, "Hi");
  EXPECT_EQ(back->prompt_tokens, 2);
}

TEST(EventJson, DoneAndError) {
  Event done;
  done.kind = Event::Kind::kDone;
  done.finish_reason = "length";
  done.timings = {
      .queue_s = 0.5, .prefill_s = 2, .decode_s = 4, .prompt_tokens = 100, .output_tokens = 21};
  const auto back = event_from_json(through_text(to_json(done)));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->finish_reason, "length");
  EXPECT_EQ(back->timings.prefill_tokens_per_s(), 50);
  EXPECT_EQ(back->timings.decode_tokens_per_s(), 5);
  EXPECT_EQ(back->timings.queue_s, 0.5);
  EXPECT_EQ(Timings{}.decode_tokens_per_s(), 0);

  Event error;
  error.kind = Event::Kind::kError;
  error.error = {ErrorCode::kContextLength, "too long: 9000 > 8192"};
  const auto told = event_from_json(through_text(to_json(error)));
  ASSERT_TRUE(told) << told.error().message;
  EXPECT_EQ(told->error.code, ErrorCode::kContextLength);
  EXPECT_EQ(told->error.message, "too long: 9000 > 8192");
}

TEST(EventJson, WhatAWorkerMakesUpIsRefusedByName) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({})", "kind"},
      {R"([])", "object"},
      {R"({"kind":"party"})", "party"},
      {R"({"kind":"token","number":-1,"token":1,"text":"","logprob":null})", "number"},
      {R"({"kind":"token","number":1,"token":1,"text":7,"logprob":null})", "text"},
      {R"({"kind":"token","number":1,"token":1,"text":""})", "logprob"},
      {R"({"kind":"token","number":1,"token":1,"text":"","logprob":null,"samplers":[],)"
       R"("more":1})",
       "fields"},
      {R"({"kind":"token","number":1,"token":1,"text":"","logprob":null,"samplers":7})",
       "samplers"},
      {R"({"kind":"token","number":1,"token":1,"text":"","logprob":)"
       R"({"token":1,"bytes":[256],"logprob":0,"alternatives":[]}})",
       "bytes"},
      {R"({"kind":"done","finish_reason":"bored","timings":{}})", "bored"},
      {R"({"kind":"done","finish_reason":"stop","timings":{}})", "queue_s"},
      {R"({"kind":"error","code":"teapot","message":""})", "teapot"},
      {R"({"kind":"accepted","prompt_tokens":1.5,"prompt_text":"","prompt_logprobs":[]})",
       "prompt_tokens"},
  };
  for (const auto& [text, name] : cases) {
    const auto read = event_from_json(Json::parse(text));
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(read.error().message, HasSubstr(name));
  }
}

}  // namespace
}  // namespace shoal
