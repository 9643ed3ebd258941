#include "tokenizer/utf8.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

const std::string kBad = "\xEF\xBF\xBD";

// Expected values are Python's bytes.decode(errors="replace").
TEST(Utf8, ReplacesAsPythonDoes) {
  EXPECT_EQ(replace_invalid_utf8(""), "");
  EXPECT_EQ(replace_invalid_utf8("abc \u00E9 \u4E16 \U0001F600"), "abc \u00E9 \u4E16 \U0001F600");
  EXPECT_EQ(replace_invalid_utf8("a\x80"), "a" + kBad);
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), kBad + kBad);
  EXPECT_EQ(replace_invalid_utf8("\xE2\x82"), kBad);
  EXPECT_EQ(replace_invalid_utf8("\xE2\x82x"), kBad + "x");
  EXPECT_EQ(replace_invalid_utf8("\xE0\x80\x80"), kBad + kBad + kBad);
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), kBad + kBad + kBad);  // a surrogate
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98"), kBad);
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98\xF0\x9F\x98\x80"), kBad + "\U0001F600");
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), kBad + kBad + kBad + kBad);  // past U+10FFFF
  EXPECT_EQ(replace_invalid_utf8("\xF5\xFF"), kBad + kBad);
}

// Whatever the pieces in which bytes arrive, what was taken and the rest make the same text.
TEST(Utf8, PiecesMakeTheSameText) {
  const std::string bytes = "a\u00E9\xE2\x82\u4E16\xF0\x9F\x98\x80\xF0\x9F\x98\xFF\xC3";
  for (size_t step = 1; step <= bytes.size(); ++step) {
    std::string held, text;
    for (size_t at = 0; at < bytes.size(); at += step) {
      held += bytes.substr(at, step);
      const std::string taken = take_complete_utf8(held);
      EXPECT_TRUE(is_utf8(taken));
      text += taken;
    }
    EXPECT_EQ(text + replace_invalid_utf8(held), replace_invalid_utf8(bytes));
  }
}

}  // namespace
}  // namespace shoal
