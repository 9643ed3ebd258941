// What a model recommends, and what of it a request gets.
#include "sampling/defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../gguf/gguf_writer.h"

namespace shoal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<SamplingDefault> kCatalogue = {{"temperature", 0.2, "catalogue"},
                                                 {"top_p", 0.9, "catalogue"}};
const std::vector<SamplingDefault> kFile = {
    {"temperature", 0.6, "file"}, {"top_k", 20, "file"}, {"xtc_probability", 0.5, "file"}};

TEST(SamplingDefaults, TheFirstWinsFieldByField) {
  EXPECT_THAT(merged(kCatalogue, kFile),
              ElementsAre(kCatalogue[0], kCatalogue[1], kFile[1], kFile[2]));
  EXPECT_EQ(merged({}, kFile), kFile);
  EXPECT_EQ(sampling_defaults_text(merged(kCatalogue, kFile)),
            "temperature 0.2, top_p 0.9 (catalogue), top_k 20, xtc_probability 0.5 (file)");
  EXPECT_EQ(sampling_defaults_text({}), "");
}

TEST(SamplingDefaults, SetWhatARequestDoesNotName) {
  SamplingParameters parameters;
  EXPECT_EQ(apply(merged(kCatalogue, kFile), {}, parameters).size(), 4u);
  EXPECT_EQ(parameters.temperature, 0.2);
  EXPECT_EQ(parameters.top_p, 0.9);
  EXPECT_EQ(parameters.top_k, 20);

  parameters = {};  // whatever a request names it gets, the value of no default included
  const std::vector<std::string> named = {"temperature", "top_k"};
  EXPECT_THAT(apply(kFile, named, parameters), ElementsAre(kFile[2]));
  EXPECT_EQ(parameters.temperature, 1);
  EXPECT_EQ(parameters.top_k, 0);
  EXPECT_EQ(parameters.xtc_probability, 0.5);
}

TEST(SamplingDefaults, GreedyStaysGreedy) {
  SamplingParameters parameters;
  parameters.temperature = 0;
  const std::vector<std::string> named = {"temperature"};
  EXPECT_TRUE(apply(merged(kCatalogue, kFile), named, parameters).empty());
  EXPECT_EQ(parameters.temperature, 0);
  EXPECT_EQ(parameters.xtc_probability, 0) << "XTC leaves out the likeliest";
  EXPECT_EQ(parameters.candidates_needed(), 1);
}

TEST(SamplingDefaults, OfAFileAsLlamaCppsConverterWritesThem) {
  gguf::GgufWriter writer;
  writer.add("general.architecture", "llama")
      .add("general.sampling.temp", 0.6F)
      .add("general.sampling.top_p", 0.95F)
      .add("general.sampling.top_k", 20)
      .add("general.sampling.penalty_last_n", -1)
      .add("general.sampling.penalty_repeat", 1.05F);
  const std::string bytes = writer.finish();
  const auto file = gguf::File::parse(as_bytes(bytes), "small.gguf");
  ASSERT_TRUE(file) << file.error().message;
  const FileSampling found = sampling_of_file(*file);
  EXPECT_TRUE(found.ignored.empty());
  EXPECT_THAT(found.defaults, ElementsAre(SamplingDefault{"temperature", 0.6, "file"},
                                          SamplingDefault{"top_p", 0.95, "file"},
                                          SamplingDefault{"top_k", 20, "file"},
                                          SamplingDefault{"repeat_last_n", -1, "file"},
                                          SamplingDefault{"repeat_penalty", 1.05, "file"}))
      << "numbers as they were written, not as a float holds them";
}

TEST(SamplingDefaults, WhatAFileCannotMeanIsLeftOutAndSaid) {
  gguf::GgufWriter writer;
  writer.add("general.architecture", "llama")
      .add("general.sampling.temp", std::numeric_limits<float>::quiet_NaN())
      .add("general.sampling.top_p", 7.0F)
      .add("general.sampling.top_k", 1.5F)
      .add("general.sampling.min_p", "a lot")
      .add("general.sampling.mirostat", 2)
      .add("general.sampling.\x1b[2J", 2)
      .add("general.sampling.typical_p", 0.5F);
  const std::string bytes = writer.finish();
  const auto file = gguf::File::parse(as_bytes(bytes), "small.gguf");
  ASSERT_TRUE(file) << file.error().message;
  const FileSampling found = sampling_of_file(*file);
  EXPECT_THAT(found.defaults, ElementsAre(SamplingDefault{"typical_p", 0.5, "file"}));
  EXPECT_THAT(
      found.ignored,
      ElementsAre(HasSubstr("temp"),
                  R"("general.sampling.top_p" is not used: 'top_p' must be from 0 to 1, not 7)",
                  HasSubstr("top_k"), R"("general.sampling.min_p" is not used: it is not a number)",
                  HasSubstr("none of that name"), HasSubstr(R"(\x1b[2J)")));
}

TEST(SamplingDefaults, ComeBackFromJsonAndAreChecked) {
  const auto all = merged(kCatalogue, kFile);
  const auto back = sampling_defaults_from_json(Json::parse(dump_json(to_json(all))));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, all);
  for (const char* wrong : {R"({})", R"([1])", R"([{"name":"top_p","value":2,"from":"file"}])",
                            R"([{"name":"seed","value":2,"from":"file"}])",
                            R"([{"name":"top_k","value":1.5,"from":"file"}])"}) {
    const auto refused = sampling_defaults_from_json(Json::parse(wrong));
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace shoal
