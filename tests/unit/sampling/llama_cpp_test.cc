// What llama.cpp's server leaves after its samplers, from the same log probabilities
// (tests/golden/make_sampling_golden.py made the file and says how).
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "sampling/sampler.h"

namespace shoal {
namespace {

Json golden() {
  std::ifstream file(SAMPLING_GOLDEN);
  std::stringstream text;
  text << file.rdbuf();
  auto json = parse_json(text.str());
  EXPECT_TRUE(json) << SAMPLING_GOLDEN;
  return json ? std::move(*json) : Json::array();
}

// The server works in float, and the file has 7 decimals: 1e-6 relative in each of a few steps.
constexpr double kTolerance = 2e-5;

TEST(LlamaCpp, TheSamplersLeaveTheSameProbabilities) {
  int compared = 0;
  for (const Json& prompt : golden()) {
    std::vector<ScoredToken> candidates;
    for (const Json& one : prompt["log_probabilities"])
      candidates.push_back({one[0].get<int32_t>(), one[1].get<float>()});
    for (const Json& one : prompt["cases"]) {
      SCOPED_TRACE(prompt["prompt"].get<std::string>() + " " + one["parameters"].dump());
      Json asked = one["parameters"];
      asked["sampler_trace"] = 20;
      asked["top_k"] = 40;
      if (asked.contains("samplers")) asked["samplers"].insert(asked["samplers"].begin(), "top_k");
      auto parameters = sampling_from_json(asked, 1);
      ASSERT_TRUE(parameters) << parameters.error().message;
      parameters->sampler_trace = 40;
      TokenHistory history(parameters->dry_sequence_breakers);
      for (size_t i = 0; i < prompt["tokens"].size(); ++i)
        history.add(prompt["tokens"][i].get<int32_t>(), prompt["pieces"][i].get<std::string>());
      const Sampled sampled = sample(candidates, 0, *parameters, 1, history);
      const SamplerStage& last = sampled.stages[sampled.stages.size() - 2];
      std::map<int32_t, double> ours;
      std::map<int32_t, double> theirs;
      for (const auto& candidate : last.best) ours[candidate.token] = candidate.after;
      for (const Json& pair : one["probabilities"]) theirs[pair[0].get<int32_t>()] = pair[1];
      for (const auto& [token, logit] : candidates)
        EXPECT_NEAR(ours[token], theirs[token], kTolerance) << "token " << token;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 3 * 22);
}

}  // namespace
}  // namespace shoal
