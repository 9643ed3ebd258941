// Which of several ranks that failed is nearest to the cause. When one goes, the others' links to
// it are reset, and theirs to one another when they end in turn: who is heard of first is chance.
// Pure; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>

namespace shoal {

// When one rank fails, the others notice at once or within a moment of one another.
inline constexpr std::chrono::seconds kLastWords{1};

struct FallenRank {
  size_t rank = 0;
  // What it said of why it ended. Nothing: it was killed, or lost with its machine.
  std::optional<std::string> complaint;
};

// The rank whose sentence is worth most. One that ended without a word of its own is the cause:
// what the others say follows. Else a complaint about a rank that itself complains of another is
// an echo. `fallen`: at least one, in the order in which they were heard of.
size_t nearest_to_the_cause(std::span<const FallenRank> fallen);

}  // namespace shoal
