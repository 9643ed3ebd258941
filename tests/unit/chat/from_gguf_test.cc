#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "../gguf/gguf_writer.h"
#include "chat/chat_template.h"

namespace shoal {
namespace {

using testing::HasSubstr;

const OrderedJson kHello = OrderedJson::parse(R"([{"role": "user", "content": "Hello"}])");

Result<std::optional<ChatTemplate>> chat_of(const gguf::GgufWriter& writer) {
  const std::string bytes = writer.finish();
  SHOAL_ASSIGN(const gguf::File file, gguf::File::parse(as_bytes(bytes), "small.gguf"));
  return ChatTemplate::from_gguf(file);
}

gguf::GgufWriter model_with(std::string_view source) {
  gguf::GgufWriter writer;
  writer.add("tokenizer.chat_template", source);
  writer.add_strings("tokenizer.ggml.tokens", {"<s>", "</s>", "a"});
  return writer;
}

TEST(FromGguf, TakesTheTextsOfItsTokens) {
  auto writer = model_with("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}");
  writer.add("tokenizer.ggml.bos_token_id", uint32_t{0})
      .add("tokenizer.ggml.eos_token_id", uint32_t{1});
  const auto chat = chat_of(writer);
  ASSERT_TRUE(chat) << chat.error().message;
  EXPECT_EQ((*chat)->render(kHello, nullptr, true, nullptr).value(), "<s>Hello</s>");
}

TEST(FromGguf, TokensThatItLacksAreUndefined) {
  const auto chat = chat_of(model_with("[{{ bos_token }}{{ eos_token is defined }}]"));
  ASSERT_TRUE(chat);
  EXPECT_EQ((*chat)->render(kHello, nullptr, true, nullptr).value(), "[False]");
}

TEST(FromGguf, MayHaveNone) {
  const auto chat = chat_of(gguf::GgufWriter().add("general.name", "x"));
  ASSERT_TRUE(chat);
  EXPECT_FALSE(chat->has_value());
}

TEST(FromGguf, ErrorsNameTheFile) {
  const auto broken = chat_of(model_with("{% for %}"));
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(broken.error().message, HasSubstr("small.gguf"));
  EXPECT_THAT(broken.error().message, HasSubstr("line 1"));

  auto writer = model_with("x");
  writer.add("tokenizer.ggml.bos_token_id", uint32_t{3});
  const auto outside = chat_of(writer);
  ASSERT_FALSE(outside);
  EXPECT_EQ(outside.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(outside.error().message, HasSubstr("bos_token_id is 3"));
}

TEST(Rendering, GivesFurtherVariables) {
  const auto chat = ChatTemplate::parse(
      "{{ enable_thinking }} {{ words | join('-') }} {{ tools | length }}", "", "");
  ASSERT_TRUE(chat);
  const auto extra = OrderedJson::parse(R"({"enable_thinking": false, "words": ["a", "b"]})");
  EXPECT_EQ(chat->render(kHello, OrderedJson::parse("[{}, {}]"), true, extra).value(),
            "False a-b 2");
}

TEST(Rendering, KeepsTheOrderOfKeys) {
  const auto chat = ChatTemplate::parse("{{ tools | tojson }}", "", "");
  ASSERT_TRUE(chat);
  const auto tools = OrderedJson::parse(R"([{"z": 1, "a": {"y": 2.0, "b": "\u00e9<&"}}])");
  EXPECT_EQ(chat->render(kHello, tools, true, nullptr).value(),
            R"([{"z": 1, "a": {"y": 2.0, "b": "é<&"}}])");
}

// What is not UTF-8 in a message cannot end in a crash further on.
TEST(Rendering, ReplacesWhatIsNotUtf8) {
  const auto chat = ChatTemplate::parse("{{ messages[0].content }}", "", "");
  ASSERT_TRUE(chat);
  OrderedJson messages = OrderedJson::array();
  messages.push_back({{"role", "user"},
                      {"content",
                       "a\xFF"
                       "b"}});
  EXPECT_EQ(chat->render(messages, nullptr, true, nullptr).value(),
            "a\uFFFD"
            "b");
}

TEST(Rendering, AnyThreadMayRender) {
  const auto chat =
      ChatTemplate::parse("{% for i in range(300) %}{{ messages[0].content }}{% endfor %}", "", "");
  ASSERT_TRUE(chat);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back(
        [&] { EXPECT_EQ(chat->render(kHello, nullptr, true, nullptr)->size(), 1500u); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace shoal
