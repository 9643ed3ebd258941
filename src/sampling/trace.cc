#include "sampling/trace.h"

#include <algorithm>

namespace shoal {

double StageRecorder::in(const std::vector<Seen>& seen, int32_t token) {
  const auto found = std::ranges::lower_bound(seen, token, {}, &Seen::token);
  return found != seen.end() && found->token == token ? found->probability : 0;
}

StageRecorder::StageRecorder(const Pool& pool, int64_t count, std::vector<SamplerStage>& stages)
    : pool_(pool), count_(static_cast<size_t>(count)), stages_(stages) {
  if (count_ > 0) record("model");
}

void StageRecorder::record(std::string_view name) {
  if (count_ == 0) return;
  const float highest = pool_.highest();
  const double total = pool_.total();
  std::vector<Seen> now;
  pool_.for_each([&](int32_t token, float logit) {
    const double probability = pool_.weight(logit, highest) / total;
    if (probability == probability) now.push_back({token, probability});
  });
  std::ranges::sort(now, {}, &Seen::token);
  SamplerStage& stage = stages_.emplace_back();
  stage.name = name;
  stage.kept = pool_.count();
  std::vector<int32_t> shown;
  for (const ScoredToken& one : pool_.best(count_)) shown.push_back(one.token);
  if (stages_.size() > 1) {
    // The best of the stage before may have been cut. They are the likeliest `before`.
    for (const SamplerStage::Candidate& one : stages_[stages_.size() - 2].best) {
      if (one.after > 0 && std::ranges::find(shown, one.token) == shown.end())
        shown.push_back(one.token);
    }
  }
  for (const int32_t token : shown) {
    const double after = in(now, token);
    stage.best.push_back({token, stages_.size() > 1 ? in(before_, token) : after, after});
  }
  before_ = std::move(now);
}

void StageRecorder::drawn(int32_t token) {
  if (count_ == 0) return;
  stages_.push_back({"draw", 1, {{token, in(before_, token), 1}}});
}

}  // namespace shoal
