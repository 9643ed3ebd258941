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

// Without a template of its own, that of the family whose tokens the vocabulary has.
TEST(FromGguf, DefaultsByTheVocabulary) {
  struct Case {
    std::string name;
    std::vector<std::string> tokens;
    std::string prompt;
  };
  const OrderedJson talk = OrderedJson::parse(R"([{"role": "system", "content": "Be brief."},
      {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "image"}]},
      {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Bye"}])");
  const Case cases[] = {
      {"ChatML",
       {"<s>", "</s>", "<|im_start|>", "<|im_end|>"},
       "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
       "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
       "<|im_start|>assistant\n"},
      {"Llama 3",
       {"<s>", "</s>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
       "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
       "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\nHi.<|eot_id|>"
       "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\n"},
      {"Llama 4",
       {"<s>", "</s>", "<|header_start|>", "<|header_end|>", "<|eot|>"},
       "<s><|header_start|>system<|header_end|>\n\nBe brief.<|eot|>"
       "<|header_start|>user<|header_end|>\n\nHello<|eot|>"
       "<|header_start|>assistant<|header_end|>\n\nHi.<|eot|>"
       "<|header_start|>user<|header_end|>\n\nBye<|eot|>"
       "<|header_start|>assistant<|header_end|>\n\n"},
      {"Gemma 4",
       {"<s>", "</s>", "<|turn>", "<turn|>"},
       "<s><|turn>system\nBe brief.<turn|>\n<|turn>user\nHello<turn|>\n"
       "<|turn>model\nHi.<turn|>\n<|turn>user\nBye<turn|>\n<|turn>model\n"},
      {"Gemma",
       {"<s>", "</s>", "<start_of_turn>", "<end_of_turn>"},
       "<s><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n"
       "<start_of_turn>model\nHi.<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n"
       "<start_of_turn>model\n"},
      {"Mistral",
       {"<s>", "</s>", "[INST]", "[/INST]"},
       "<s>[INST] Be brief.\n\nHello[/INST] Hi.</s>[INST] Bye[/INST]"},
      {"Phi 3",
       {"<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"},
       "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi.<|end|>\n"
       "<|user|>\nBye<|end|>\n<|assistant|>\n"},
      {"DeepSeek",
       {"<s>", "</s>", "<\uFF5CUser\uFF5C>", "<\uFF5CAssistant\uFF5C>"},
       "<s>Be brief.<\uFF5CUser\uFF5C>Hello<\uFF5CAssistant\uFF5C>Hi.</s><\uFF5CUser\uFF5C>Bye"
       "<\uFF5CAssistant\uFF5C>"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    gguf::GgufWriter writer;
    writer.add_strings("tokenizer.ggml.tokens", one.tokens);
    writer.add("tokenizer.ggml.bos_token_id", uint32_t{0})
        .add("tokenizer.ggml.eos_token_id", uint32_t{1});
    const auto chat = chat_of(writer);
    ASSERT_TRUE(chat) << chat.error().message;
    ASSERT_TRUE(chat->has_value());
    EXPECT_EQ((*chat)->default_name(), one.name);
    const auto prompt = (*chat)->render(talk, nullptr, true, nullptr);
    ASSERT_TRUE(prompt) << prompt.error().message;
    EXPECT_EQ(*prompt, one.prompt);
    // What the format cannot say is not left out in silence.
    const auto tools = OrderedJson::parse(R"([{"type": "function"}])");
    const auto refused = (*chat)->render(talk, tools, true, nullptr);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("no place for tools"));
  }
}

TEST(FromGguf, ItsOwnTemplateComesFirst) {
  auto writer = gguf::GgufWriter();
  writer.add("tokenizer.chat_template", "own")
      .add_strings("tokenizer.ggml.tokens", {"<|im_start|>", "<|im_end|>"});
  const auto chat = chat_of(writer);
  ASSERT_TRUE(chat);
  EXPECT_EQ((*chat)->default_name(), "");
  EXPECT_EQ((*chat)->render(kHello, nullptr, true, nullptr).value(), "own");
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
