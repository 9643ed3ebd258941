#include "store/model_name.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

using Kind = ModelName::Kind;

TEST(ModelName, TellsTheThreeKindsApart) {
  EXPECT_EQ(parse_model_name("smollm2:135m")->kind, Kind::kCatalogue);
  EXPECT_EQ(parse_model_name("  smollm2 ")->text, "smollm2");
  for (const char* path : {"./x", "x.gguf", "X.GGUF", "/a/b", "a/b", "~/m.gguf", "../x"}) {
    EXPECT_EQ(parse_model_name(path)->kind, Kind::kPath) << path;
  }
  const auto file = parse_model_name("hf:Own-er/Re.po_1/sub/x-Q8_0.gguf");
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->repo, "Own-er/Re.po_1");
  EXPECT_EQ(file->file, "sub/x-Q8_0.gguf");
  const auto quant = parse_model_name("hf:a/b:Q4_K_M");
  EXPECT_EQ(quant->repo, "a/b");
  EXPECT_EQ(quant->quant, "Q4_K_M");
  EXPECT_EQ(parse_model_name("hf:a/b/q/x-00002-of-00003.gguf")->file, "q/x-00001-of-00003.gguf");
  const auto ollama = parse_model_name("ollama:me/llama3.2");
  EXPECT_EQ(ollama->kind, Kind::kOllama);
  EXPECT_EQ(ollama->text, "ollama:me/llama3.2:latest");
  EXPECT_EQ(parse_model_name("ollama:llama3.2:3b")->text, "ollama:llama3.2:3b");
}

TEST(ModelName, RefusesWhatCannotBeMeant) {
  for (const char* name :
       {"", "  ", "hf:", "hf:a", "hf:/b", "hf:a/", "hf:a/b:", "hf:a/b:x y", "hf:a/../b.gguf",
        "hf:a/b/x.bin", "hf:a/b/.x.gguf", "hf:a b/c", "hf:a/b//x.gguf", "hf:-a/b",
        "ollama:", "ollama:a:", "ollama:../x", "ollama:a b"}) {
    EXPECT_FALSE(parse_model_name(name).has_value()) << name;
  }
  EXPECT_FALSE(parse_model_name(std::string(5000, 'a')).has_value());
  EXPECT_FALSE(parse_model_name(std::string("a\0b", 3)).has_value());
}

TEST(ModelName, FoldersAndPathsStayInside) {
  EXPECT_EQ(folder_name("smollm2:135m"), "smollm2-135m");
  EXPECT_EQ(folder_name("../../etc"), "model..-..-etc");
  EXPECT_EQ(folder_name(""), "model");
  EXPECT_TRUE(is_plain_relative_path("a/b.c/d"));
  for (const char* path : {"", "/a", "a/", "a//b", "..", "a/../b", ".a", "a\\b", "a\nb"}) {
    EXPECT_FALSE(is_plain_relative_path(path)) << path;
  }
}

TEST(ModelName, KnowsAQuantByTheEndOfTheFileName) {
  EXPECT_TRUE(has_quant("dir/Model-Q4_K_M.gguf", "q4_k_m"));
  EXPECT_TRUE(has_quant("Model.Q8_0.gguf", "Q8_0"));
  EXPECT_TRUE(has_quant("Q8_0.gguf", "Q8_0"));
  EXPECT_TRUE(has_quant("Model-Q8_0-00001-of-00002.gguf", "Q8_0"));
  EXPECT_FALSE(has_quant("Model-IQ4_XS.gguf", "Q4_XS"));
  EXPECT_FALSE(has_quant("Model-Q4_K_M.gguf", "Q4_K"));
}

TEST(ModelName, SuggestsWhatASlipOfTheKeyboardMeant) {
  const std::vector<std::string> known = {"smollm2:135m", "smollm2:360m", "qwen3:8b",
                                          "gemma3:270m"};
  EXPECT_EQ(nearest_names("smolm2:135m", known).front(), "smollm2:135m");
  EXPECT_EQ(nearest_names("sommll2:360m", known).front(), "smollm2:360m");
  EXPECT_EQ(nearest_names("qwen3", known).front(), "qwen3:8b");
  EXPECT_TRUE(nearest_names("llama-405b", known).empty());
  EXPECT_TRUE(nearest_names(std::string(10'000, 'x'), known).empty());
}

}  // namespace
}  // namespace shoal
