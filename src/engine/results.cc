#include "engine/results.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace shoal {

namespace {

struct WirePart {
  double sum;
  float maximum;
  uint32_t count;
};
static_assert(sizeof(WirePart) == 16 && sizeof(Candidate) == 8);

bool uses_vocabulary(Want want) {
  return want == Want::kCandidates || want == Want::kLogits;
}

void append(Bytes& message, const void* data, size_t size) {
  if (size == 0) return;
  const size_t end = message.size();
  message.resize(end + size);
  std::memcpy(message.data() + end, data, size);
}

}  // namespace

bool needs_vocabulary(const Step& step) {
  return std::ranges::any_of(step.rows,
                             [](const StepRow& row) { return uses_vocabulary(row.want); });
}

bool needs_hidden(const Step& step) {
  return std::ranges::any_of(step.rows,
                             [](const StepRow& row) { return row.want == Want::kHidden; });
}

void ResultPacker::pack(const Step& step, std::span<const float> logits, Range vocabulary,
                        Bytes& message, std::span<const float> hidden) {
  const auto width = static_cast<size_t>(vocabulary.size());
  message.clear();
  size_t wanted = 0;
  for (const StepRow& row : step.rows) {
    if (row.want == Want::kNothing) continue;
    const auto values = logits.subspan(wanted * width, width);
    if (row.want == Want::kHidden && !hidden.empty()) {
      const size_t hidden_width = hidden.size() * width / logits.size();
      const auto state = hidden.subspan(wanted * hidden_width, hidden_width);
      append(message, state.data(), state.size_bytes());
    }
    ++wanted;
    if (row.want == Want::kLogits) append(message, values.data(), values.size_bytes());
    if (row.want != Want::kCandidates) continue;
    const PartialSumExp sum = sum_exp(values);
    select_top(values, static_cast<int32_t>(vocabulary.begin), step.candidate_count, best_);
    const WirePart part{sum.sum, sum.maximum, static_cast<uint32_t>(best_.size())};
    append(message, &part, sizeof part);
    append(message, best_.data(), best_.size() * sizeof(Candidate));
  }
}

std::unexpected<Error> ResultMerger::wrong_size(size_t index, size_t size) const {
  return fail(ErrorCode::kCorrupt,
              "rank {} answered a step with {} bytes, which is not what it asked for",
              first_rank_ + static_cast<int>(index), size);
}

Status ResultMerger::merge_candidates(const Step& step, std::span<const Bytes> parts,
                                      RowResult& row) {
  sums_.clear();
  row.candidates.clear();
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    const auto& [begin, end] = vocabularies_[rank];
    const size_t expected =
        std::min(static_cast<size_t>(step.candidate_count), static_cast<size_t>(end - begin));
    const size_t size = sizeof(WirePart) + expected * sizeof(Candidate);
    if (parts[rank].size() - offsets_[rank] < size) return wrong_size(rank, parts[rank].size());
    const std::byte* data = parts[rank].data() + offsets_[rank];
    offsets_[rank] += size;
    WirePart part;
    std::memcpy(&part, data, sizeof part);
    if (part.count != expected) return wrong_size(rank, parts[rank].size());
    sums_.push_back({part.maximum, part.sum});
    const size_t first = row.candidates.size();
    row.candidates.resize(first + expected);
    std::memcpy(row.candidates.data() + first, data + sizeof part, expected * sizeof(Candidate));
    for (size_t i = first; i < row.candidates.size(); ++i) {
      const Candidate& candidate = row.candidates[i];
      // A logit that is not a number has no place in an order; the packer never sends one.
      if (candidate.token < begin || candidate.token >= end || candidate.logit != candidate.logit) {
        return fail(
            ErrorCode::kCorrupt, "rank {} offers token {} with logit {}, and holds {} to {}",
            first_rank_ + static_cast<int>(rank), candidate.token, candidate.logit, begin, end - 1);
      }
    }
  }
  // Each part is sorted; the best of all are among them, whatever the cut.
  std::ranges::sort(row.candidates, better);
  if (row.candidates.size() > step.candidate_count) row.candidates.resize(step.candidate_count);
  row.log_sum_exp = log_sum_exp(sums_);
  return {};
}

Status ResultMerger::merge_logits(std::span<const Bytes> parts, RowResult& row) {
  row.logits.clear();
  row.logits.resize(static_cast<size_t>(vocabularies_.back().end));
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    const auto& [begin, end] = vocabularies_[rank];
    const size_t size = static_cast<size_t>(end - begin) * sizeof(float);
    if (parts[rank].size() - offsets_[rank] < size) return wrong_size(rank, parts[rank].size());
    std::memcpy(row.logits.data() + begin, parts[rank].data() + offsets_[rank], size);
    offsets_[rank] += size;
  }
  return {};
}

Status ResultMerger::take_hidden(std::span<const Bytes> parts, RowResult& row) {
  const size_t size = sent_width_ * sizeof(float);
  if (parts[0].size() - offsets_[0] < size) return wrong_size(0, parts[0].size());
  row.hidden.resize(sent_width_);
  std::memcpy(row.hidden.data(), parts[0].data() + offsets_[0], size);
  offsets_[0] += size;
  return {};
}

Status ResultMerger::merge(const Step& step, std::span<const Bytes> parts,
                           std::span<const float> hidden, StepResult& result) {
  result.number = step.number;
  result.rows.clear();
  const auto wanted = static_cast<size_t>(std::ranges::count_if(
      step.rows, [](const StepRow& row) { return row.want != Want::kNothing; }));
  if (wanted == 0) return {};
  const size_t hidden_width = hidden.size() / wanted;
  const bool from_all = needs_vocabulary(step) || (sent_width_ > 0 && needs_hidden(step));
  SHOAL_CHECK(!from_all || parts.size() == vocabularies_.size());
  offsets_.assign(vocabularies_.size(), 0);
  result.rows.resize(wanted);
  size_t next = 0;
  for (size_t r = 0; r < step.rows.size(); ++r) {
    const Want want = step.rows[r].want;
    if (want == Want::kNothing) continue;
    RowResult& row = result.rows[next];
    row.row = static_cast<uint32_t>(r);
    if (want == Want::kCandidates) SHOAL_TRY(merge_candidates(step, parts, row));
    if (want == Want::kLogits) SHOAL_TRY(merge_logits(parts, row));
    if (want == Want::kHidden && sent_width_ > 0) {
      SHOAL_TRY(take_hidden(parts, row));
    } else if (want == Want::kHidden) {
      const auto values = hidden.subspan(next * hidden_width, hidden_width);
      row.hidden.assign(values.begin(), values.end());
    }
    ++next;
  }
  for (size_t rank = 0; from_all && rank < parts.size(); ++rank) {
    if (offsets_[rank] != parts[rank].size()) return wrong_size(rank, parts[rank].size());
  }
  return {};
}

}  // namespace shoal
