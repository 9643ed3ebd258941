// Who may not ask, and what cannot be meant.
#include "api_fixture.h"

namespace shoal::api {
namespace {

TEST_F(ApiTest, ForeignHostsAndOriginsAreRefused) {
  start();
  const std::string port = std::to_string(server_->port());
  for (const std::string host :
       {"localhost", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:7465", "[::1]:80", "localhost."}) {
    EXPECT_EQ(get("/v1/models", {{"Host", host}}).status, 200) << host;
  }
  for (const std::string host : {"evil.example", "127.0.0.1.evil.example", "192.168.1.5:7465",
                                 "localhost.evil", "[::2]", "", "0.0.0.0"}) {
    const http::Response response = get("/v1/models", {{"Host", host}});
    EXPECT_EQ(response.status, 403) << host;
  }
  const auto with_origin = [&](std::string origin) {
    return get("/v1/models", {{"Host", "localhost:" + port}, {"Origin", std::move(origin)}});
  };
  EXPECT_EQ(with_origin("http://localhost:" + port).status, 200);
  for (const std::string origin :
       {"https://evil.example", "null", "", "http://localhost:1", "http://127.0.0.1:1",
        "http://localhost.evil.example", "file://"}) {
    expect_error(with_origin(origin), 403, "another origin");
  }
  // A refused page also learns nothing by asking before.
  http::Request preflight;
  preflight.method = "OPTIONS";
  preflight.path = "/v1/chat/completions";
  preflight.headers = {{"Origin", "https://evil.example"},
                       {"Access-Control-Request-Method", "POST"}};
  const http::Response response = ask(std::move(preflight));
  EXPECT_EQ(response.status, 403);
  for (const auto& [name, value] : response.headers) {
    EXPECT_FALSE(name.starts_with("Access-Control")) << name;
  }
  EXPECT_TRUE(backend_.requests.empty());
}

TEST_F(ApiTest, TheListeningAddressIsAHostToo) {
  start(ApiOptions{.listen_host = "192.168.1.5", .allowed_hosts = {"box.lan"}, .api_key = ""});
  EXPECT_EQ(get("/health", {{"Host", "192.168.1.5:7465"}}).status, 200);
  EXPECT_EQ(get("/health", {{"Host", "Box.lan:7465"}}).status, 200);
  EXPECT_EQ(get("/health", {{"Host", "192.168.1.6"}}).status, 403);
}

TEST_F(ApiTest, ListeningEverywhereAnyAddressIsAHostButNoForeignName) {
  start(ApiOptions{.listen_host = "0.0.0.0", .allowed_hosts = {}, .api_key = "k"});
  EXPECT_EQ(get("/health", {{"Host", "10.1.2.3:7465"}}).status, 200);
  EXPECT_EQ(get("/health", {{"Host", "evil.example"}}).status, 403);
}

TEST_F(ApiTest, AKeyIsAskedForWhenThereIsOne) {
  start(ApiOptions{.listen_host = "127.0.0.1", .allowed_hosts = {}, .api_key = "sesame"});
  const auto with = [&](std::string authorization) {
    http::Headers headers;
    if (!authorization.empty()) headers["Authorization"] = std::move(authorization);
    return get("/v1/models", std::move(headers));
  };
  expect_error(with(""), 401, "Bearer KEY");
  expect_error(with("Bearer wrong"), 401, "wrong");
  expect_error(with("Bearer sesame2"), 401, "wrong");
  expect_error(with("Basic sesame"), 401, "wrong");
  EXPECT_EQ(with("Bearer sesame").status, 200);
  EXPECT_EQ(with("bearer sesame").status, 200);
  EXPECT_EQ(json(get("/health")), (Json{{"status", "ok"}}));
  EXPECT_EQ(json(get("/health", {{"Authorization", "Bearer sesame"}}))["nodes"], 2);
  EXPECT_EQ(chat().status, 401);
}

TEST_F(ApiTest, RoutesAndMethods) {
  expect_error(get("/v1/chat"), 404, "there is no /v1/chat");
  expect_error(get("/v1/models/"), 404, "there is no");
  const http::Response get_chat = get("/v1/chat/completions");
  expect_error(get_chat, 405, "use POST");
  EXPECT_EQ(get_chat.headers.at("Allow"), "POST");
  const http::Response post_models = post("/v1/models", "{}");
  EXPECT_EQ(post_models.status, 405);
  EXPECT_EQ(post_models.headers.at("Allow"), "GET, HEAD");
}

TEST_F(ApiTest, TheContentTypeMustBeJson) {
  const std::string body = R"({"model":"m","messages":[{"role":"user","content":"hi"}]})";
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", "", "json"}) {
    expect_error(post("/v1/chat/completions", body, {{"Content-Type", type}}), 415,
                 "application/json");
  }
  EXPECT_EQ(
      post("/v1/chat/completions", body, {{"Content-Type", "Application/JSON; charset=utf-8"}})
          .status,
      200);
}

TEST_F(ApiTest, WhatIsNoJson) {
  expect_error(post("/v1/chat/completions", R"({"model": "m", )"), 400, "JSON at byte 16");
  expect_error(post("/v1/chat/completions", ""), 400, "JSON at byte 1");
  expect_error(post("/v1/chat/completions", "\xff\xfe"), 400, "JSON at byte 1");
  expect_error(post("/v1/chat/completions", "[1,2]"), 400, "must be a JSON object");
  expect_error(post("/v1/completions", std::string(100'000, '[')), 400, "nested");
}

TEST_F(ApiTest, MessagesThatCannotBeMeant) {
  const auto with = [&](const std::string& messages) {
    return post("/v1/chat/completions", R"({"model":"m","messages":)" + messages + "}");
  };
  expect_error(with("[]"), 400, "at least one message", "messages");
  expect_error(with("null"), 400, "missing", "messages");
  expect_error(with(R"("hi")"), 400, "must be a list", "messages");
  expect_error(with("[1]"), 400, "must be an object", "messages[0]");
  expect_error(with(R"([{"content":"x"}])"), 400, "must be a string", "messages[0].role");
  expect_error(with(R"([{"role":"user","content":"x"},{"role":"wizard","content":"x"}])"), 400,
               "'wizard'", "messages[1].role");
  expect_error(with(R"([{"role":"user"}])"), 400, "missing", "messages[0].content");
  expect_error(with(R"([{"role":"user","content":7}])"), 400, "text parts", "messages[0].content");
  expect_error(with(R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])"), 400,
               "not supported", "messages[0].content[0].type");
  expect_error(with(R"([{"role":"user","content":[{"type":"text"}]}])"), 400, "must be a string",
               "messages[0].content[0].text");
  EXPECT_TRUE(backend_.requests.empty());
}

TEST_F(ApiTest, FieldsThatCannotBeMeant) {
  struct Case {
    const char* field;
    const char* param;
  };
  for (const auto& [field, param] : std::initializer_list<Case>{
           {R"("stream":"yes")", "stream"},
           {R"("stream_options":1)", "stream_options"},
           {R"("stream_options":{"include_usage":1})", "stream_options.include_usage"},
           {R"("temperature":"hot")", "temperature"},
           {R"("temperature":-1)", "temperature"},
           {R"("temperature":1e308)", "temperature"},
           {R"("top_p":1.5)", "top_p"},
           {R"("min_p":2)", "min_p"},
           {R"("top_k":1.5)", "top_k"},
           {R"("seed":1.5)", "seed"},
           {R"("max_tokens":0)", "max_tokens"},
           {R"("max_tokens":"9")", "max_tokens"},
           {R"("max_completion_tokens":-7)", "max_completion_tokens"},
           {R"("n":0)", "n"},
           {R"("n":1000)", "n"},
           {R"("stop":5)", "stop"},
           {R"("stop":[1])", "stop"},
           {R"("stop":["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"])",
            "stop"},
           {R"("logprobs":3)", "logprobs"},
           {R"("top_logprobs":2)", "top_logprobs"},
           {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
           {R"("logit_bias":{"5":101})", "logit_bias"},
           {R"("logit_bias":{"hello":1})", "logit_bias"},
           {R"("logit_bias":{"-5":1})", "logit_bias"},
           {R"("logit_bias":{"5":true})", "logit_bias"},
           {R"("logit_bias":{"5":1,"05":2})", "logit_bias"},
           {R"("logit_bias":[[5,1,2]])", "logit_bias"},
           {R"("logit_bias":[5])", "logit_bias"},
           {R"("logit_bias":7)", "logit_bias"},
           {R"("presence_penalty":2.5)", "presence_penalty"},
           {R"("frequency_penalty":"high")", "frequency_penalty"},
           {R"("repeat_penalty":0)", "repeat_penalty"},
           {R"("repeat_last_n":-2)", "repeat_last_n"},
           {R"("typical_p":1.1)", "typical_p"},
           {R"("top_n_sigma":-2)", "top_n_sigma"},
           {R"("xtc_probability":-0.1)", "xtc_probability"},
           {R"("xtc_threshold":2)", "xtc_threshold"},
           {R"("dry_multiplier":-1)", "dry_multiplier"},
           {R"("dry_base":0.5)", "dry_base"},
           {R"("dry_allowed_length":0)", "dry_allowed_length"},
           {R"("dry_penalty_last_n":1.5)", "dry_penalty_last_n"},
           {R"("dry_sequence_breakers":"x")", "dry_sequence_breakers"},
           {R"("dry_sequence_breakers":[""])", "dry_sequence_breakers"},
           {R"("dry_sequence_breakers":[1])", "dry_sequence_breakers"},
           {R"("samplers":["top_k","tfs_z"])", "samplers"},
           {R"("samplers":["temp","temperature"])", "samplers"},
           {R"("samplers":"top_k")", "samplers"},
           {R"("sampler_trace":21)", "sampler_trace"},
           {R"("response_format":{"type":"json_object"})", "response_format"},
           {R"("tool_choice":"required")", "tool_choice"},
           {R"("tools":{})", "tools"},
           {R"("chat_template_kwargs":[])", "chat_template_kwargs"},
           {R"("stop_token_ids":[-1])", "stop_token_ids"},
       }) {
    expect_error(chat(field), 400, fmt::format("'{}'", param), param);
  }
  expect_error(post("/v1/chat/completions", R"({"messages":[]})"), 400, "/v1/models", "model");
  expect_error(post("/v1/chat/completions", R"({"model":7})"), 400, "name", "model");
  EXPECT_TRUE(backend_.requests.empty());
  EXPECT_EQ(chat(R"("stop":null,"temperature":null,"max_tokens":16.0,"top_k":-1)").status, 200);
}

TEST_F(ApiTest, CompletionFieldsThatCannotBeMeant) {
  for (const char* prompt : {"5", "{}", "[]", "[[]]", "[1,\"a\"]", "[[1],2]", "[-1]", "[1.5]",
                             "[3000000000]", "[null]", "true"}) {
    expect_error(complete(fmt::format(R"("prompt":{})", prompt)), 400, "'prompt'", "prompt");
  }
  expect_error(complete(R"("max_tokens":3)"), 400, "missing", "prompt");
  expect_error(complete(R"("prompt":"a","suffix":"b")"), 400, "not supported", "suffix");
  expect_error(complete(R"("prompt":"a","logprobs":true)"), 400, "integer", "logprobs");
  expect_error(complete(R"("prompt":"a","logprobs":99)"), 400, "from 0 to 20", "logprobs");
  expect_error(complete(R"("prompt":"a","best_of":3)"), 400, "not supported", "best_of");
  expect_error(complete(R"("prompt":"a","echo":"x")"), 400, "true or false", "echo");
  EXPECT_TRUE(backend_.requests.empty());
}

}  // namespace
}  // namespace shoal::api
