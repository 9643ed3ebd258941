// Any bytes as what another rank sends over a link that stands: the header of a step, its part of
// the results, what it says of its RDMA. The first byte chooses. Besides the sanitizers it checks
// what must hold of everything that is accepted.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "engine/results.h"
#include "engine/step_header.h"
#include "transport/verbs_hello.h"

namespace {

using namespace shoal;

void must(bool condition) {
  if (!condition) std::abort();
}

StepLimits limits() {
  return {.rows = 32,
          .wanted_rows = 8,
          .positions = 256,
          .vocabulary = 320,
          .page_tokens = 16,
          .groups = {{.page_count = 40}, {.page_count = 12, .ring_pages = 3}}};
}

// What every rank accepts is written as it was read.
void header(std::span<const std::byte> input) {
  static const StepLimits kLimits = limits();
  static Step step;  // memory reused, as a rank does
  static std::vector<bool> seen;
  const auto kind = decode_header(input, kLimits, step);
  if (!kind) return;
  Bytes again;
  if (*kind != HeaderKind::kStep) {
    encode_signal(*kind, again);
    must(again.size() == input.size());
    return;
  }
  if (!check_step(step, kLimits, seen)) return;
  encode_step(step, again);
  must(std::ranges::equal(again, input));
}

// The first bytes say what three rows want, how many candidates, and how the rest falls to two
// ranks.
void results(std::span<const std::byte> input) {
  constexpr size_t kSettings = 5;
  if (input.size() < kSettings) return;
  const auto setting = [&](size_t i) { return std::to_integer<uint32_t>(input[i]); };
  Step step;
  step.number = 1;
  step.candidate_count = 1 + setting(3) % 16;
  for (uint32_t row = 0; row < 3; ++row) {
    const auto position = static_cast<int32_t>(row);
    step.rows.push_back({0, 7, position, Role::kPrompt, static_cast<Want>(setting(row) % 4)});
  }
  const auto rest = input.subspan(kSettings);
  const size_t border = rest.size() * setting(4) / 255;
  const std::vector<Bytes> parts = {Bytes(rest.begin(), rest.begin() + static_cast<long>(border)),
                                    Bytes(rest.begin() + static_cast<long>(border), rest.end())};
  constexpr int64_t kVocabulary = 24;
  ResultMerger merger({{0, 10}, {10, kVocabulary}}, 0, /*sent_width=*/4);
  StepResult result;
  if (!merger.merge(step, parts, {}, result)) return;
  for (const RowResult& row : result.rows) {
    const Want want = step.rows[row.row].want;
    must(want != Want::kLogits || row.logits.size() == kVocabulary);
    must(want != Want::kHidden || row.hidden.size() == 4);
    if (want != Want::kCandidates) continue;
    must(row.candidates.size() == step.candidate_count);
    must(std::ranges::is_sorted(row.candidates, better));
    for (const Candidate& candidate : row.candidates)
      must(candidate.token >= 0 && candidate.token < kVocabulary);
  }
}

void hello(std::span<const std::byte> input) {
  const auto decoded = decode_verbs_hello(input);
  if (decoded) must(std::ranges::equal(encode(*decoded), input));
}

void piece(std::span<const std::byte> input) {
  if (input.size() < kPieceHeaderBytes) return;
  const auto bytes = input.first<kPieceHeaderBytes>();
  const auto decoded = decode_piece_header(bytes);
  if (!decoded) return;
  std::array<std::byte, kPieceHeaderBytes> again;
  encode(*decoded, again);
  must(std::ranges::equal(again, bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  const auto rest = input.subspan(1);
  switch (std::to_integer<int>(input.front()) % 4) {
    case 0:
      header(rest);
      break;
    case 1:
      results(rest);
      break;
    case 2:
      hello(rest);
      break;
    default:
      piece(rest);
  }
  return 0;
}
