// Accounting of KV pages: which pages a sequence holds in each cache group, how often each page is
// shared. Pure: the bytes belong to the backend. Used by one thread (the lead's). A page is either
// free or referred to by at least one table; no operation loses or duplicates one, whatever the
// order of calls.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tensor/backend.h"

namespace shoal {

using SequenceId = uint64_t;

struct KvGroup {
  int64_t page_count;
  // Of layers with a window: a sequence has at most so many pages and goes round in them, because
  // what lies a ring behind is out of sight. 0: a sequence keeps everything.
  int64_t ring_pages = 0;
};
// The ring of a window when a step appends up to `step_rows` positions of a sequence: the window of
// the first of them up to the last.
int64_t ring_pages(int64_t window, int64_t step_rows, int page_tokens);

class KvPages {
 public:
  KvPages(std::vector<KvGroup> groups, int page_tokens);
  // Groups that keep everything, each with `page_count` pages.
  KvPages(size_t group_count, int64_t page_count, int page_tokens)
      : KvPages(std::vector<KvGroup>(group_count, KvGroup{page_count}), page_tokens) {}

  // Grows the sequence's tables to cover `positions`; all or nothing. kDoesNotFit with needed and
  // free pages.
  Status reserve(SequenceId sequence, int64_t positions);
  // Rollback: frees pages wholly beyond `positions`. Returns the positions that stay valid to
  // append to: fewer than asked when the page at the border is shared, because writing there would
  // change another sequence's history; none
  // of a sequence that went round in a ring.
  int64_t truncate(SequenceId sequence, int64_t positions);
  void release(SequenceId sequence);  // a sequence that it does not know is no error
  // Makes `to`, which holds nothing yet, share the pages that wholly lie in the first `positions`
  // of `from`; returns the positions shared (0 when `to` already holds pages, or a group's pages
  // are a ring).
  int64_t share(SequenceId from, SequenceId to, int64_t positions);

  // [group][index]: the page of positions from index * page_tokens; in a ring pages recur.
  const std::vector<std::vector<PageId>>& tables(SequenceId sequence) const;
  bool fits(int64_t positions) const;      // a sequence of so many, alone
  bool fits_now(int64_t positions) const;  // a new one, beside those that are here
  int64_t free_pages() const;              // of the fullest group
  int64_t page_count() const;              // of the largest
  int64_t pages_for(int64_t positions) const;
  int page_tokens() const { return page_tokens_; }
  size_t group_count() const { return free_.size(); }

 private:
  using Tables = std::vector<std::vector<PageId>>;
  void drop_from(Tables& tables, int64_t first_page);
  // Pages of a group that a table of `entries` holds.
  int64_t held(size_t group, int64_t entries) const;

  std::vector<KvGroup> groups_;
  int page_tokens_;
  std::vector<std::vector<PageId>> free_;          // per group
  std::vector<std::vector<uint32_t>> references_;  // per group and page
  std::unordered_map<SequenceId, Tables> sequences_;
  Tables empty_;  // of sequences that are not known
};

}  // namespace shoal
