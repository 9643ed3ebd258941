// The one message that the lead sends per step: docs/formats/step-header.md. Pure; any thread. What
// comes in is outside input: every count is checked against the limits before anything is read or
// allocated.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "engine/engine.h"

namespace shoal {

enum class HeaderKind : uint16_t { kStep = 1, kTick = 2, kStop = 3 };

// What a step may hold in this instance; the same on every rank.
struct StepLimits {
  int64_t rows;
  int64_t wanted_rows;
  int64_t positions;
  int64_t vocabulary;
  int page_tokens;
  std::vector<KvGroup> groups;

  int64_t pages_for(int64_t positions) const { return (positions + page_tokens - 1) / page_tokens; }
};

// Rows, positions, pages and sizes against the limits: kInvalidArgument with the row and the value.
// `seen` is memory to reuse.
Status check_step(const Step& step, const StepLimits& limits, std::vector<bool>& seen);

void encode_step(const Step& step, Bytes& frame);
void encode_signal(HeaderKind kind, Bytes& frame);  // kTick, kStop

// Fills `step` (memory reused) when the kind is kStep; it is not yet checked by check_step.
// kCorrupt.
Result<HeaderKind> decode_header(std::span<const std::byte> frame, const StepLimits& limits,
                                 Step& step);

}  // namespace shoal
