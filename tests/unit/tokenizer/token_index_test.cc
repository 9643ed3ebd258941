#include "tokenizer/token_index.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

TEST(TokenIndex, FindsEveryTextAndNoOther) {
  std::vector<std::string> texts;
  for (int i = 0; i < 5000; ++i) texts.push_back("token " + std::to_string(i * 7));
  TokenIndex index(texts.size());
  for (int32_t id = 0; id < 5000; ++id) ASSERT_FALSE(index.add(id, texts));
  for (int32_t id = 0; id < 5000; ++id)
    ASSERT_EQ(index.find(texts[static_cast<size_t>(id)], texts), id);
  for (int i = 0; i < 35000; ++i) {
    ASSERT_TRUE(i % 7 == 0 || !index.find("token " + std::to_string(i), texts)) << i;
  }
}

TEST(TokenIndex, TheFirstOfEqualTextsCounts) {
  const std::vector<std::string> texts = {"a", "", "a", ""};
  TokenIndex index(texts.size());
  EXPECT_EQ(index.add(0, texts), std::nullopt);
  EXPECT_EQ(index.add(1, texts), std::nullopt);
  EXPECT_EQ(index.add(2, texts), 0);
  EXPECT_EQ(index.add(3, texts), 1);
  EXPECT_EQ(index.find("a", texts), 0);
  EXPECT_EQ(index.find("", texts), 1);
}

TEST(TokenIndex, AnEmptyOneFindsNothing) {
  EXPECT_EQ(TokenIndex().find("", {}), std::nullopt);
  EXPECT_EQ(TokenIndex(0).find("a", {}), std::nullopt);
}

}  // namespace
}  // namespace shoal
