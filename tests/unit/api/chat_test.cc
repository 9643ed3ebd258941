// Chat completions: whole, streamed, failing, abandoned.
#include <cmath>

#include "api_fixture.h"

namespace shoal::api {
namespace {

using ::testing::StartsWith;

TEST_F(ApiTest, AWholeChatAnswer) {
  const http::Response response = chat();
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(response.headers.at("Content-Type"), "application/json");
  EXPECT_FALSE(response.headers.contains("Access-Control-Allow-Origin"));
  const Json answer = json(response);
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_THAT(answer["id"].get<std::string>(), StartsWith("chatcmpl-"));
  EXPECT_EQ(answer["model"], "m");
  EXPECT_GT(answer["created"].get<int64_t>(), 1'600'000'000);
  ASSERT_EQ(answer["choices"].size(), 1u);
  const Json& choice = answer["choices"][0];
  EXPECT_EQ(choice["index"], 0);
  EXPECT_EQ(choice["message"], (Json{{"role", "assistant"}, {"content", "Hello"}}));
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["logprobs"], nullptr);
  EXPECT_EQ(answer["usage"],
            (Json{{"prompt_tokens", 4}, {"completion_tokens", 3}, {"total_tokens", 7}}));
  EXPECT_EQ(answer["timings"]["prompt_per_second"], 16);
  EXPECT_EQ(answer["timings"]["predicted_ms"], 500);
}

TEST_F(ApiTest, AStreamedChatAnswer) {
  const http::Response response = chat(R"("stream":true)");
  EXPECT_EQ(response.headers.at("Content-Type"), "text/event-stream");
  const auto list = chunks(response);
  ASSERT_EQ(list.size(), 5u) << response.body;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(list[i]["object"], "chat.completion.chunk");
    EXPECT_EQ(list[i]["id"], list[0]["id"]);
    EXPECT_EQ(list[i]["choices"][0]["index"], 0);
    EXPECT_FALSE(list[i].contains("usage"));
  }
  EXPECT_EQ(list[0]["choices"][0]["delta"], (Json{{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(list[1]["choices"][0]["delta"], (Json{{"content", "Hel"}}));
  EXPECT_EQ(list[1]["choices"][0]["finish_reason"], nullptr);
  EXPECT_EQ(list[2]["choices"][0]["delta"], (Json{{"content", "lo"}}));
  EXPECT_EQ(list[3]["choices"][0]["delta"], Json::object());
  EXPECT_EQ(list[3]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(list[3]["timings"]["predicted_n"], 3);
  EXPECT_EQ(list[4], "[DONE]");
}

TEST_F(ApiTest, UsageAtTheEndOfAStreamWhenAsked) {
  const auto list = chunks(chat(R"("stream":true,"stream_options":{"include_usage":true})"));
  ASSERT_EQ(list.size(), 6u);
  EXPECT_EQ(list[1]["usage"], nullptr);
  EXPECT_EQ(list[4]["choices"], Json::array());
  EXPECT_EQ(list[4]["usage"]["total_tokens"], 7);
  EXPECT_EQ(list[4]["id"], list[0]["id"]);
  EXPECT_EQ(list[5], "[DONE]");
}

TEST_F(ApiTest, SamplingFieldsReachTheBackend) {
  chat(R"("temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"seed":-1,"stop":["a","","b"],
          "max_tokens":9,"max_completion_tokens":7,"chat_template_kwargs":{"enable_thinking":false},
          "stop_token_ids":[2],"unknown":{"x":1},"user":"u","n":1)");
  chat(R"("stop":"end","max_tokens":32000)");
  chat();
  ASSERT_EQ(backend_.requests.size(), 3u);
  const GenerateRequest& first = backend_.requests[0];
  EXPECT_TRUE(first.chat);
  EXPECT_EQ(first.model, "m");
  EXPECT_EQ(first.sampling.temperature, 0.5);
  EXPECT_EQ(first.sampling.top_p, 0.9);
  EXPECT_EQ(first.sampling.top_k, 40);
  EXPECT_EQ(first.sampling.min_p, 0.05);
  EXPECT_EQ(first.sampling.seed, UINT64_MAX);
  EXPECT_EQ(first.sampling.logprobs, -1);
  EXPECT_EQ(first.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(first.stop_tokens, std::vector<int32_t>{2});
  EXPECT_EQ(first.max_tokens, 7);
  EXPECT_EQ(first.template_arguments["enable_thinking"], false);
  EXPECT_EQ(backend_.requests[1].stop, std::vector<std::string>{"end"});
  EXPECT_EQ(backend_.requests[1].max_tokens, 32000);
  EXPECT_EQ(backend_.requests[2].max_tokens, -1);
  EXPECT_EQ(backend_.requests[2].sampling.temperature, 1);
  EXPECT_NE(backend_.requests[1].sampling.seed, backend_.requests[2].sampling.seed);
}

TEST_F(ApiTest, WhatARequestNamesIsToldApartFromWhatItLeavesToTheModel) {
  chat(R"("temperature":1,"top_k":0,"min_p":null,"seed":1)");
  chat();
  post("/v1/completions", R"({"model":"m","prompt":"x","repeat_penalty":1,"repeat_last_n":64})");
  ASSERT_EQ(backend_.requests.size(), 3u);
  EXPECT_EQ(backend_.requests[0].sampling_named, (std::vector<std::string>{"temperature", "top_k"}))
      << "the values of no default are named too; null is not";
  EXPECT_TRUE(backend_.requests[1].sampling_named.empty());
  EXPECT_EQ(backend_.requests[2].sampling_named,
            (std::vector<std::string>{"repeat_penalty", "repeat_last_n"}));
}

TEST_F(ApiTest, EverySamplingFieldReachesTheBackend) {
  ASSERT_EQ(
      chat(
          R"("presence_penalty":0.5,"frequency_penalty":-0.25,"repeat_penalty":1.1,"repeat_last_n":-1,
              "dry_multiplier":0.8,"dry_base":1.5,"dry_allowed_length":3,"dry_penalty_last_n":200,
              "dry_sequence_breakers":["\n","."],"xtc_probability":0.5,"xtc_threshold":0.2,
              "typical_p":0.9,"top_n_sigma":1.5,"samplers":["top_k","temp","typical_p"],
              "logit_bias":{"7":-100,"9":1.5},"sampler_trace":4)")
          .status,
      200);
  ASSERT_EQ(chat(R"("logit_bias":[[3,false],["4",-2]],"samplers":[],"logprobs":null)").status, 200);
  ASSERT_EQ(backend_.requests.size(), 2u);
  const SamplingParameters& first = backend_.requests[0].sampling;
  EXPECT_EQ(first.presence_penalty, 0.5);
  EXPECT_EQ(first.frequency_penalty, -0.25);
  EXPECT_EQ(first.repeat_penalty, 1.1);
  EXPECT_EQ(first.repeat_last_n, -1);
  EXPECT_EQ(first.dry_multiplier, 0.8);
  EXPECT_EQ(first.dry_base, 1.5);
  EXPECT_EQ(first.dry_allowed_length, 3);
  EXPECT_EQ(first.dry_penalty_last_n, 200);
  EXPECT_EQ(first.dry_sequence_breakers, (std::vector<std::string>{"\n", "."}));
  EXPECT_EQ(first.xtc_probability, 0.5);
  EXPECT_EQ(first.xtc_threshold, 0.2);
  EXPECT_EQ(first.typical_p, 0.9);
  EXPECT_EQ(first.top_n_sigma, 1.5);
  EXPECT_EQ(first.samplers,
            (std::vector{Sampler::kTopK, Sampler::kTemperature, Sampler::kTypicalP}));
  ASSERT_EQ(first.logit_bias.size(), 2u);
  EXPECT_EQ(first.logit_bias[0].token, 7);
  EXPECT_EQ(first.logit_bias[0].bias, -100);
  EXPECT_EQ(first.logit_bias[1].bias, 1.5);
  EXPECT_EQ(first.sampler_trace, 4);
  const SamplingParameters& second = backend_.requests[1].sampling;
  ASSERT_EQ(second.logit_bias.size(), 2u);
  EXPECT_EQ(second.logit_bias[0].bias, -INFINITY);
  EXPECT_EQ(second.logit_bias[1].token, 4);
  EXPECT_TRUE(second.samplers.empty());
  EXPECT_EQ(second.repeat_penalty, 1);
}

TEST_F(ApiTest, WhatSamplersLeftComesWithTheTokenWhenAskedFor) {
  Event event = token(0, "");
  event.samplers = {{"model", 50, {{7, "\xc3", 0.5, 0.5}}}, {"top_k", 1, {{7, "x", 0.5, 1}}}};
  Event first = accepted(1);
  first.sampling_defaults = {{"temperature", 0.2, "catalogue"}};
  backend_.scripts = {{first, event, token(1, "b"), done("stop")}};
  const Json whole = json(chat())["choices"][0];
  ASSERT_EQ(whole["samplers"].size(), 1u);
  EXPECT_EQ(whole["sampling_defaults"],
            Json::parse(R"([{"name":"temperature","value":0.2,"from":"catalogue"}])"));
  EXPECT_EQ(whole["samplers"][0][0]["best"][0]["token"], "bytes:\\xc3");
  EXPECT_EQ(whole["samplers"][0][1], Json::parse(R"({"name":"top_k","kept":1,
                            "best":[{"token":"x","id":7,"before":0.5,"after":1.0}]})"));
  const auto list = chunks(chat(R"("stream":true)"));
  EXPECT_EQ(list[1]["choices"][0]["samplers"], whole["samplers"]);
  EXPECT_EQ(list[1]["choices"][0]["sampling_defaults"], whole["sampling_defaults"]);
  EXPECT_FALSE(list[2]["choices"][0].contains("sampling_defaults"));
  EXPECT_FALSE(list[2]["choices"][0].contains("samplers"));
}

TEST_F(ApiTest, MessagesAreBroughtToOneForm) {
  post("/v1/chat/completions", R"({"model":"m","messages":[
    {"role":"developer","content":"be brief","cache_control":{}},
    {"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c1"}],"reasoning_content":"hm"},
    {"role":"tool","content":"42","tool_call_id":"c1"}]})");
  ASSERT_EQ(backend_.requests.size(), 1u);
  EXPECT_EQ(
      dump_json(backend_.requests[0].messages),
      R"([{"role":"system","content":"be brief"},{"role":"user","content":"one\ntwo"},)"
      R"({"role":"assistant","content":"","reasoning_content":"hm","tool_calls":[{"id":"c1"}]},)"
      R"({"role":"tool","content":"42","tool_call_id":"c1"}])");
}

TEST_F(ApiTest, SeveralChoicesDifferBySeed) {
  backend_.scripts = {{accepted(4), token(0, "a"), done("stop")},
                      {accepted(4), token(0, "b"), done("length")}};
  const Json answer = json(chat(R"("n":2,"seed":10)"));
  ASSERT_EQ(answer["choices"].size(), 2u);
  EXPECT_EQ(answer["choices"][1]["index"], 1);
  EXPECT_EQ(answer["choices"][1]["message"]["content"], "b");
  EXPECT_EQ(answer["choices"][1]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 2);
  EXPECT_EQ(backend_.requests[1].sampling.seed, 11u);
  EXPECT_EQ(chunks(chat(R"("n":2,"stream":true)")).size(), 7u);
}

TEST_F(ApiTest, LogProbabilitiesOfAChat) {
  Event event = token(0, "é");
  event.logprob = TokenLogprob{7, "\xc3", -0.5, {{7, "\xc3", -0.5, {}}, {8, "x", -INFINITY, {}}}};
  backend_.scripts = {{accepted(1), event, done("stop")}};
  const Json content =
      json(chat(R"("logprobs":true,"top_logprobs":2)"))["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 1u);
  EXPECT_EQ(content[0]["bytes"], Json::array({0xc3}));
  EXPECT_EQ(content[0]["logprob"], -0.5);
  EXPECT_EQ(content[0]["top_logprobs"][1]["token"], "x");
  EXPECT_EQ(content[0]["top_logprobs"][1]["logprob"], -9999.0);
  EXPECT_EQ(backend_.requests[0].sampling.logprobs, 2);
  const auto list = chunks(chat(R"("logprobs":true,"stream":true)"));
  EXPECT_EQ(list[1]["choices"][0]["logprobs"]["content"][0]["logprob"], -0.5);
  EXPECT_EQ(backend_.requests[1].sampling.logprobs, 0);
}

TEST_F(ApiTest, APromptThatIsTooLongIsAnErrorWithBothNumbers) {
  backend_.scripts = {{failed(ErrorCode::kContextLength,
                              "the prompt has 9000 tokens, the context 8192; shorten it")}};
  for (const char* more : {R"("stream":false)", R"("stream":true)"}) {
    const http::Response response = chat(more);
    expect_error(response, 400, "9000 tokens, the context 8192");
    EXPECT_EQ(json(response)["error"]["code"], "context_length_exceeded");
    EXPECT_EQ(json(response)["error"]["type"], "invalid_request_error");
  }
}

TEST_F(ApiTest, AModelThatIsNotThereIsToldWithTheFix) {
  backend_.refusal = Error{ErrorCode::kNotFound, "the model 'm' is not on this cluster"};
  const http::Response response = chat();
  expect_error(response, 404, "not on this cluster; run `shoal pull m`", "model");
  EXPECT_EQ(json(response)["error"]["code"], "model_not_found");
}

TEST_F(ApiTest, OtherRefusalsHaveTheirStatus) {
  backend_.refusal = Error{ErrorCode::kBusy, "the queue is full"};
  const http::Response busy = chat();
  expect_error(busy, 429, "queue is full");
  EXPECT_EQ(busy.headers.at("Retry-After"), "1");
  backend_.refusal = Error{ErrorCode::kDoesNotFit, "needs 2.5 GB, 1.8 GB are free"};
  expect_error(chat(), 507, "2.5 GB");
  backend_.refusal = Error{ErrorCode::kUnreachable, "the lead's node is gone"};
  const http::Response gone = chat();
  expect_error(gone, 503, "lead's node");
  EXPECT_EQ(json(gone)["error"]["type"], "server_error");
}

TEST_F(ApiTest, AFailureWhileStreamingIsSaidInTheStream) {
  backend_.scripts = {{accepted(4), token(0, "Hel"),
                       failed(ErrorCode::kUnreachable, "the worker died (signal 9)")}};
  const auto list = chunks(chat(R"("stream":true)"));
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[1]["choices"][0]["delta"]["content"], "Hel");
  EXPECT_EQ(list[2]["error"]["message"], "the worker died (signal 9)");
  EXPECT_EQ(list[2]["error"]["code"], "unreachable");
  expect_error(chat(), 503, "signal 9");
  backend_.scripts = {hello()};
  EXPECT_EQ(chat().status, 200);
}

TEST_F(ApiTest, AWorkerThatAnswersOutOfOrderIsA500) {
  backend_.scripts = {{token(0, "early")}};
  expect_error(chat(), 500, "out of order");
}

TEST_F(ApiTest, AClientThatLeavesStopsItsGeneration) {
  start();
  for (const bool stream : {true, false}) {
    backend_.cancelled = 0;
    backend_.scripts = {{accepted(4), token(0, "Hel")}};
    const std::string body = fmt::format(
        R"({{"model":"m","messages":[{{"role":"user","content":"x"}}],"stream":{}}})", stream);
    {
      http::RawClient client(server_->port());
      client.send(
          fmt::format("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                      "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                      body.size(), body));
      if (stream) client.read_until("Hel");
      const size_t wanted = stream ? 1 : 2;
      while (loop_.call([&] { return backend_.requests.size(); }) < wanted) {
      }
    }
    for (int i = 0; i < 2000 && backend_.cancelled == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_EQ(backend_.cancelled, 1) << stream;
  }
}

}  // namespace
}  // namespace shoal::api
