#include <gtest/gtest.h>

#include <random>

#include "sampling/sampler.h"

namespace shoal {
namespace {

TEST(StopStrings, HoldsBackWhatMayBecomeAStop) {
  StopStrings stops({"</end>"});
  EXPECT_EQ(stops.add("hello </"), "hello ");
  EXPECT_EQ(stops.add("em>"), "</em>");
  EXPECT_EQ(stops.add("x</en"), "x");
  EXPECT_EQ(stops.add("d> more"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.add("anything"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, TheFirstOfSeveralToBeCompleteWins) {
  StopStrings stops({"world", "lo w"});
  EXPECT_EQ(stops.add("hello world"), "hel");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, WhatWasHeldComesAtTheEnd) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.add("the EN"), "the ");
  EXPECT_EQ(stops.finish(), "EN");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, WithoutStopsEverythingIsShown) {
  StopStrings stops({""});
  EXPECT_EQ(stops.add("abc"), "abc");
  EXPECT_EQ(stops.finish(), "");
}

// Whatever the pieces, the text shown is the text up to the first stop string.
TEST(StopStrings, PiecesDoNotMatter) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    const auto letters = [&](size_t length) {
      std::string text;
      while (text.size() < length) text += static_cast<char>('a' + random() % 2);
      return text;
    };
    std::vector<std::string> wanted;
    for (size_t i = random() % 3 + 1; i > 0; --i) wanted.push_back(letters(random() % 6 + 1));
    const std::string text = letters(random() % 40);
    size_t first = std::string::npos;  // where the stop begins that is complete first
    for (size_t length = 1; length <= text.size() && first == std::string::npos; ++length) {
      const std::string so_far = text.substr(0, length);
      for (const auto& stop : wanted) {
        if (so_far.ends_with(stop)) first = std::min(first, length - stop.size());
      }
    }
    StopStrings stops(wanted);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t length = random() % 5;
      shown += stops.add(text.substr(at, length));
      at += length;
    }
    shown += stops.finish();
    EXPECT_EQ(shown, text.substr(0, first));
    EXPECT_EQ(stops.stopped(), first != std::string::npos);
  }
}

}  // namespace
}  // namespace shoal
