// Text completions, models and health.
#include <cmath>

#include "api_fixture.h"

namespace shoal::api {
namespace {

using ::testing::HasSubstr;

TEST_F(ApiTest, AWholeCompletion) {
  const Json answer = json(complete(R"("prompt":"once","max_tokens":3)"));
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_THAT(answer["id"].get<std::string>(), ::testing::StartsWith("cmpl-"));
  EXPECT_EQ(answer["choices"][0]["text"], "Hello");
  EXPECT_EQ(answer["choices"][0]["index"], 0);
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(answer["usage"]["total_tokens"], 7);
  EXPECT_FALSE(backend_.requests[0].chat);
  EXPECT_EQ(backend_.requests[0].prompt, "once");
}

TEST_F(ApiTest, AStreamedCompletion) {
  const auto list = chunks(complete(R"("prompt":"once","stream":true)"));
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0]["object"], "text_completion");
  EXPECT_EQ(list[0]["choices"][0]["text"], "Hel");
  EXPECT_EQ(list[2]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(list[2]["choices"][0]["text"], "");
  EXPECT_EQ(list[3], "[DONE]");
}

TEST_F(ApiTest, EveryFormOfPrompt) {
  complete(R"("prompt":[1,2,3])");
  complete(R"("prompt":[[4,5]])");
  complete(R"("prompt":["one"])");
  const Json several = json(complete(R"("prompt":["a","b"],"n":2)"));
  ASSERT_EQ(backend_.requests.size(), 7u);
  EXPECT_EQ(backend_.requests[0].prompt_tokens, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(backend_.requests[1].prompt_tokens, (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(backend_.requests[2].prompt, "one");
  EXPECT_EQ(backend_.requests[4].prompt, "a");
  EXPECT_EQ(backend_.requests[5].prompt, "b");
  ASSERT_EQ(several["choices"].size(), 4u);
  EXPECT_EQ(several["choices"][3]["index"], 3);
  EXPECT_EQ(several["usage"]["prompt_tokens"], 8);
  EXPECT_EQ(several["usage"]["completion_tokens"], 12);
}

TEST_F(ApiTest, AnEchoWithLogProbabilities) {
  Event begin = accepted(2);
  begin.prompt_text = "aé";
  begin.prompt_logprobs = {{1, "a", NAN, {}}, {2, "é", -1.5, {{2, "é", -1.5, {}}}}};
  Event event = token(0, "!");
  event.logprob = TokenLogprob{3, "!", -0.25, {{3, "!", -0.25, {}}, {4, "\xf0\x9f", -2, {}}}};
  backend_.scripts = {{begin, event, done("length")}};
  const Json choice =
      json(complete(R"("prompt":"aé","echo":true,"logprobs":2,"max_tokens":1)"))["choices"][0];
  EXPECT_TRUE(backend_.requests[0].echo);
  EXPECT_EQ(choice["text"], "aé!");
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], (Json{"a", "é", "!"}));
  EXPECT_EQ(logprobs["token_logprobs"], (Json{nullptr, -1.5, -0.25}));
  EXPECT_EQ(logprobs["text_offset"], (Json{0, 1, 2}));
  EXPECT_EQ(logprobs["top_logprobs"][0], nullptr);
  EXPECT_EQ(logprobs["top_logprobs"][2], (Json{{"!", -0.25}, {"bytes:\\xf0\\x9f", -2.0}}));
  const auto list = chunks(complete(R"("prompt":"aé","echo":true,"logprobs":2,"stream":true)"));
  EXPECT_EQ(list[0]["choices"][0]["text"], "aé");
  EXPECT_EQ(list[1]["choices"][0]["logprobs"]["text_offset"], (Json{2}));
}

TEST_F(ApiTest, Models) {
  const Json list = json(get("/v1/models"));
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][0]["id"], "smollm2:135m");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(list["data"][0]["owned_by"], "shoal");
  EXPECT_EQ(list["data"][0]["created"], 1700000000);
  EXPECT_EQ(json(get("/v1/models/smollm2:135m"))["id"], "smollm2:135m");
  EXPECT_EQ(json(get("/v1/models/hf:a/b:q4"))["state"], "on disk");
  expect_error(get("/v1/models/none"), 404, "run `shoal pull none`", "model");
}

TEST_F(ApiTest, HealthAndGreeting) {
  EXPECT_EQ(json(get("/health")), (Json{{"status", "ok"}, {"nodes", 2}}));
  EXPECT_THAT(get("/").body, HasSubstr("Shoal is running"));
  http::Request head;
  head.method = "HEAD";
  EXPECT_EQ(ask(std::move(head)).status, 200);
}

}  // namespace
}  // namespace shoal::api
