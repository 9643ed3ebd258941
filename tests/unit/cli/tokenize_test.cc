#include "cli/tokenize.h"

#include <gtest/gtest.h>

namespace shoal::cli {
namespace {

const std::string kModel = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/llama/plain.gguf";

TEST(Tokenize, GivesIdsWhosePiecesMakeTheText) {
  const std::string text = "hello, wörld\n";
  const auto tokenized = tokenize(kModel, text);
  ASSERT_TRUE(tokenized) << tokenized.error().message;
  std::string together;
  for (const std::string& piece : tokenized->pieces) together += piece;
  EXPECT_EQ(together, text);
  EXPECT_EQ(to_json(*tokenized).at("ids").size(), tokenized->ids.size());
  EXPECT_EQ(static_cast<size_t>(std::ranges::count(to_text(*tokenized), '\n')),
            tokenized->ids.size());
}

TEST(Tokenize, AnEmptyTextHasNoIds) {
  const auto tokenized = tokenize(kModel, "");
  ASSERT_TRUE(tokenized);
  EXPECT_EQ(dump_json(to_json(*tokenized)), "{\"ids\":[]}");
}

TEST(Tokenize, AMissingModelIsNamed) {
  const auto refused = tokenize("/nowhere/model.gguf", "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace shoal::cli
