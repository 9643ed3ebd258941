// Prompts equal, byte for byte, those that Python's Jinja renders in Hugging Face's environment
// (tests/golden/chat).
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "chat/chat_template.h"

namespace shoal {
namespace {

const std::string kFolder = SHOAL_SOURCE_DIR "/tests/golden/chat/";

OrderedJson load(const std::string& name) {
  const auto text = read_file(kFolder + name);
  EXPECT_TRUE(text) << text.error().message;
  return text ? OrderedJson::parse(*text) : OrderedJson();
}

std::vector<OrderedJson> load_lines(const std::string& name) {
  std::vector<OrderedJson> lines;
  std::ifstream file(kFolder + name);
  for (std::string line; std::getline(file, line);) lines.push_back(OrderedJson::parse(line));
  return lines;
}

class Golden : public testing::Test {
 protected:
  // strftime_now tells the time of the machine's zone.
  static void SetUpTestSuite() {
    setenv("TZ", "UTC", 1);
    tzset();
  }

  void check(const ChatTemplate& chat, const std::string& name, size_t expected_count) {
    size_t count = 0;
    for (const OrderedJson& line : load_lines("rendered.jsonl")) {
      if (line["template"] != name) continue;
      ++count;
      SCOPED_TRACE("conversation " + line["conversation"].dump() + ", given " +
                   line["given"].dump());
      const OrderedJson& given = inputs_["given"][line["given"].get<size_t>()];
      const OrderedJson& messages = inputs_["conversations"][line["conversation"].get<size_t>()];
      const auto prompt =
          chat.render_at(inputs_["now_unix_s"].get<int64_t>(), messages, given["tools"],
                         given["add_generation_prompt"].get<bool>(), given["extra"]);
      if (line["prompt"].is_string()) {
        ASSERT_TRUE(prompt) << prompt.error().message;
        EXPECT_EQ(*prompt, line["prompt"].get<std::string>());
        continue;
      }
      ASSERT_FALSE(prompt) << *prompt;
      EXPECT_EQ(prompt.error().code, ErrorCode::kInvalidArgument) << prompt.error().message;
      const auto words = line["raised"].get<std::string>();
      EXPECT_NE(prompt.error().message.find(words), std::string::npos)
          << prompt.error().message << "\nnot: " << words;
    }
    EXPECT_EQ(count, expected_count);
  }

  const OrderedJson inputs_ = load("inputs.json");
};

class Rendered : public Golden, public testing::WithParamInterface<const char*> {};

TEST_P(Rendered, AsPythonDoes) {
  const std::string name = GetParam();
  const auto source = read_file(kFolder + name + ".jinja");
  ASSERT_TRUE(source) << source.error().message;
  const auto chat = ChatTemplate::parse(*source, "<s>", "</s>");
  ASSERT_TRUE(chat) << chat.error().message;
  check(*chat, name, 96);
}

INSTANTIATE_TEST_SUITE_P(Templates, Rendered,
                         testing::Values("plain", "tools", "thinking", "turns", "instruct", "typed",
                                         "deepseek", "phi", "command", "glm"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(Golden, SmolLm2sOwnTemplate) {
  const char* folder = std::getenv("SHOAL_TEST_MODELS");
  if (!folder)
    GTEST_SKIP() << "SHOAL_TEST_MODELS does not name a folder with SmolLM2-135M-Instruct.Q4_1.gguf";
  const auto path = std::filesystem::path(folder) / "SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " does not exist";
  const auto file = gguf::File::open(path);
  ASSERT_TRUE(file) << file.error().message;
  const auto chat = ChatTemplate::from_gguf(*file);
  ASSERT_TRUE(chat) << chat.error().message;
  ASSERT_TRUE(chat->has_value());
  check(**chat, "smollm2", 96);
}

// One expression a line: operators, filters, tests, methods, printing.
TEST_F(Golden, Expressions) {
  int count = 0;
  for (const OrderedJson& line : load_lines("expressions.jsonl")) {
    ++count;
    const auto source = line[0].get<std::string>();
    SCOPED_TRACE(source);
    const auto chat = ChatTemplate::parse(source, "<s>", "</s>");
    if (!chat) {
      EXPECT_TRUE(line[1].is_null()) << chat.error().message;
      continue;
    }
    const auto printed = chat->render_at(inputs_["now_unix_s"].get<int64_t>(), OrderedJson::array(),
                                         nullptr, false, inputs_["context"]);
    if (line[1].is_null()) {
      EXPECT_FALSE(printed) << *printed;
    } else if (printed) {
      EXPECT_EQ(*printed, line[1].get<std::string>());
    } else {
      ADD_FAILURE() << printed.error().message << "\nnot: " << line[1];
    }
  }
  EXPECT_GT(count, 200);
}

}  // namespace
}  // namespace shoal
