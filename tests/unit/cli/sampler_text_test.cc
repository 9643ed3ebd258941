#include "cli/sampler_text.h"

#include <gtest/gtest.h>

#include <sstream>

namespace shoal::cli {
namespace {

Json candidate(const std::string& token, double before, double after) {
  return {{"token", token}, {"id", 1}, {"before", before}, {"after", after}};
}

TEST(SamplerLines, ShowWhatWasLeftAndWhatBecameOfTheBest) {
  const Json stages = {
      {{"name", "model"},
       {"kept", 49152},
       {"best", {candidate(" the", 0.412, 0.412), candidate("\n", 0.0001, 0.0001)}}},
      {{"name", "top_k"},
       {"kept", 1},
       {"best", {candidate(" the", 0.412, 1), candidate("\n", 0.0001, 0)}}},
      {{"name", "draw"}, {"kept", 1}, {"best", {candidate(" the", 1, 1)}}},
  };
  EXPECT_EQ(sampler_lines(3, stages),
            "token 3 \" the\"\n"
            "  model         49152  \" the\" 41.2%  \"\\n\" <0.1%\n"
            "  top_k             1  \" the\" 41.2>100.0%  \"\\n\" <0.1>out\n"
            "  draw              1  \" the\" 100.0%\n");
}

TEST(SamplerLines, FitEightyColumnsWhateverTheTokens) {
  for (const std::string& token :
       {std::string(200, 'x'), std::string(40, '\x01'), std::string("\xff\xfe\xfd"),
        std::string("日本語日本語日本語日本語日本語日本語"), std::string("é")}) {
    Json best = Json::array();
    for (int i = 0; i < 20; ++i) best.push_back(candidate(token, 0.123, 0.456));
    const std::string text =
        sampler_lines(1234567, {{{"name", "top_n_sigma"}, {"kept", 262144}, {"best", best}}});
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      size_t characters = 0;
      for (const char byte : line) characters += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
      EXPECT_LE(characters, 80u) << line;
    }
    EXPECT_NE(text.find("12.3>45.6%"), std::string::npos) << text;
  }
}

TEST(SamplerLines, SurviveWhatIsNoReport) {
  EXPECT_EQ(sampler_lines(0, nullptr), "token 0\n");
  EXPECT_EQ(sampler_lines(0, Json::array()), "token 0\n");
  EXPECT_EQ(sampler_lines(0, Json::array({Json::object()})), "token 0\n                    0\n");
}

}  // namespace
}  // namespace shoal::cli
