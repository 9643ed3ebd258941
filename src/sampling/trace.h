// Records what each sampler leaves, when a request asks for it. Costs passes over the vocabulary
// when on, nothing when off. Private to this module.
#pragma once

#include <string_view>
#include <vector>

#include "sampling/pool.h"
#include "sampling/sampler.h"

namespace shoal {

class StageRecorder {
 public:
  // Watches the pool, which outlives it; `count` of the best at each stage, 0: nothing is done.
  // Records the first stage, "model".
  StageRecorder(const Pool& pool, int64_t count, std::vector<SamplerStage>& stages);
  void record(std::string_view name);  // after a sampler
  void drawn(int32_t token);           // the last stage, "draw"

 private:
  struct Seen {
    int32_t token;
    double probability;
  };
  static double in(const std::vector<Seen>& seen, int32_t token);

  const Pool& pool_;
  size_t count_;
  std::vector<SamplerStage>& stages_;
  std::vector<Seen> before_;  // all that was left, by rising token
};

}  // namespace shoal
