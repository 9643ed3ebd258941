#include "supervise/culprit.h"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace shoal {
namespace {

// The first rank that a complaint is about: links call their peers "rank 3".
std::optional<size_t> rank_named_in(std::string_view complaint) {
  constexpr std::string_view kName = "rank ";
  for (size_t at = 0; (at = complaint.find(kName, at)) != std::string_view::npos;) {
    at += kName.size();
    size_t rank = 0;
    const auto [end, error] =
        std::from_chars(complaint.data() + at, complaint.data() + complaint.size(), rank);
    if (error == std::errc()) return rank;
  }
  return std::nullopt;
}

}  // namespace

size_t nearest_to_the_cause(std::span<const FallenRank> fallen) {
  const auto silent = std::ranges::find_if(fallen, [](const auto& one) { return !one.complaint; });
  if (silent != fallen.end()) return silent->rank;
  const FallenRank* at = &fallen.front();
  for (size_t turn = 0; turn < fallen.size(); ++turn) {
    const auto blamed = rank_named_in(*at->complaint);
    const auto next = std::ranges::find_if(
        fallen, [&](const FallenRank& one) { return blamed && one.rank == *blamed; });
    if (next == fallen.end() || &*next == at) return at->rank;
    at = &*next;
  }
  // They blame one another: what lies between them is at fault. A reset tells the least of it.
  const auto knows_more = std::ranges::find_if(
      fallen, [](const FallenRank& one) { return !one.complaint->contains("reset"); });
  return knows_more != fallen.end() ? knows_more->rank : fallen.front().rank;
}

}  // namespace shoal
