#include "kv/pages.h"

#include <algorithm>

namespace shoal {

int64_t ring_pages(int64_t window, int64_t step_rows, int page_tokens) {
  // So many positions in a row touch one page more than they fill.
  return (window - 1 + step_rows + page_tokens - 2) / page_tokens + 1;
}

KvPages::KvPages(std::vector<KvGroup> groups, int page_tokens)
    : groups_(std::move(groups)), page_tokens_(page_tokens), empty_(groups_.size()) {
  SHOAL_CHECK(page_tokens > 0);
  free_.resize(groups_.size());
  references_.resize(groups_.size());
  for (size_t group = 0; group < groups_.size(); ++group) {
    const int64_t page_count = groups_[group].page_count;
    SHOAL_CHECK(page_count >= 0 && page_count <= INT32_MAX && groups_[group].ring_pages >= 0);
    references_[group].assign(static_cast<size_t>(page_count), 0);
    free_[group].reserve(static_cast<size_t>(page_count));
    // Taken from the back, so that low pages go first and a lightly used cache stays in few pages
    // of memory.
    for (int64_t page = page_count - 1; page >= 0; --page) {
      free_[group].push_back(static_cast<PageId>(page));
    }
  }
}

int64_t KvPages::held(size_t group, int64_t entries) const {
  const int64_t ring = groups_[group].ring_pages;
  return ring > 0 ? std::min(entries, ring) : entries;
}

bool KvPages::fits(int64_t positions) const {
  for (size_t group = 0; group < groups_.size(); ++group) {
    if (held(group, pages_for(positions)) > groups_[group].page_count) return false;
  }
  return true;
}

bool KvPages::fits_now(int64_t positions) const {
  for (size_t group = 0; group < groups_.size(); ++group) {
    if (held(group, pages_for(positions)) > static_cast<int64_t>(free_[group].size())) return false;
  }
  return true;
}

int64_t KvPages::pages_for(int64_t positions) const {
  return positions <= 0 ? 0 : (positions - 1) / page_tokens_ + 1;
}

int64_t KvPages::page_count() const {
  int64_t most = 0;
  for (const KvGroup& group : groups_) most = std::max(most, group.page_count);
  return most;
}

int64_t KvPages::free_pages() const {
  int64_t least = page_count();
  for (const auto& pages : free_) least = std::min(least, static_cast<int64_t>(pages.size()));
  return least;
}

const std::vector<std::vector<PageId>>& KvPages::tables(SequenceId sequence) const {
  const auto found = sequences_.find(sequence);
  return found == sequences_.end() ? empty_ : found->second;
}

Status KvPages::reserve(SequenceId sequence, int64_t positions) {
  const int64_t wanted = pages_for(positions);
  const auto& before = tables(sequence);
  for (size_t group = 0; group < free_.size(); ++group) {
    const int64_t missing =
        held(group, wanted) - held(group, static_cast<int64_t>(before[group].size()));
    const auto available = static_cast<int64_t>(free_[group].size());
    if (missing > available) {
      return fail(ErrorCode::kDoesNotFit,
                  "{} positions need {} more KV pages of {} positions, {} of {} are free",
                  positions, missing, page_tokens_, available, groups_[group].page_count);
    }
  }
  auto& tables = sequences_.try_emplace(sequence, empty_).first->second;
  for (size_t group = 0; group < free_.size(); ++group) {
    while (static_cast<int64_t>(tables[group].size()) < wanted) {
      const auto entries = static_cast<int64_t>(tables[group].size());
      if (held(group, entries + 1) == held(group, entries)) {  // round again
        tables[group].push_back(
            tables[group][static_cast<size_t>(entries - groups_[group].ring_pages)]);
        continue;
      }
      const PageId page = free_[group].back();
      free_[group].pop_back();
      references_[group][static_cast<size_t>(page)] = 1;
      tables[group].push_back(page);
    }
  }
  return {};
}

void KvPages::drop_from(Tables& tables, int64_t first_page) {
  for (size_t group = 0; group < tables.size(); ++group) {
    while (static_cast<int64_t>(tables[group].size()) > first_page) {
      const PageId page = tables[group].back();
      tables[group].pop_back();
      const auto entries = static_cast<int64_t>(tables[group].size());
      if (held(group, entries + 1) == held(group, entries)) continue;  // still there further down
      uint32_t& references = references_[group][static_cast<size_t>(page)];
      SHOAL_CHECK(references > 0);
      if (--references == 0) free_[group].push_back(page);
    }
  }
}

int64_t KvPages::truncate(SequenceId sequence, int64_t positions) {
  const auto found = sequences_.find(sequence);
  if (found == sequences_.end()) return 0;
  Tables& tables = found->second;
  positions = std::max<int64_t>(positions, 0);
  for (size_t group = 0; group < tables.size(); ++group) {
    const auto entries = static_cast<int64_t>(tables[group].size());
    // A ring that went round holds the end of the sequence, not what lay before the new one.
    if (held(group, entries) < entries && pages_for(positions) < entries) positions = 0;
  }
  for (const auto& table : tables) {
    positions = std::min(positions, static_cast<int64_t>(table.size()) * page_tokens_);
  }
  const int64_t whole_pages = positions / page_tokens_;
  if (positions % page_tokens_ != 0) {
    for (size_t group = 0; group < tables.size(); ++group) {
      const PageId border = tables[group][static_cast<size_t>(whole_pages)];
      if (references_[group][static_cast<size_t>(border)] > 1) {
        positions = whole_pages * page_tokens_;
        break;
      }
    }
  }
  drop_from(tables, pages_for(positions));
  return positions;
}

void KvPages::release(SequenceId sequence) {
  const auto found = sequences_.find(sequence);
  if (found == sequences_.end()) return;
  drop_from(found->second, 0);
  sequences_.erase(found);
}

int64_t KvPages::share(SequenceId from, SequenceId to, int64_t positions) {
  const auto source = sequences_.find(from);
  if (source == sequences_.end() || from == to) return 0;
  for (const KvGroup& group : groups_) {
    if (group.ring_pages > 0) return 0;
  }
  for (const auto& table : tables(to)) {
    if (!table.empty()) return 0;
  }
  int64_t pages = std::max<int64_t>(positions, 0) / page_tokens_;
  for (const auto& table : source->second) {
    pages = std::min(pages, static_cast<int64_t>(table.size()));
  }
  if (pages == 0 || free_.empty()) return 0;
  Tables shared = empty_;
  for (size_t group = 0; group < shared.size(); ++group) {
    const auto& table = source->second[group];
    shared[group].assign(table.begin(), table.begin() + pages);
    for (const PageId page : shared[group]) ++references_[group][static_cast<size_t>(page)];
  }
  sequences_[to] = std::move(shared);
  return pages * page_tokens_;
}

}  // namespace shoal
