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

class KvPages {
 public:
  // Every group has `page_count` pages of `page_tokens` positions.
  KvPages(size_t group_count, int64_t page_count, int page_tokens);

  // Grows the sequence's tables to cover `positions`; all or nothing. kDoesNotFit with needed and
  // free pages.
  Status reserve(SequenceId sequence, int64_t positions);
  // Rollback: frees pages wholly beyond `positions`. Returns the positions that stay valid to
  // append to: fewer than asked when the page at the border is shared, because writing there would
  // change another sequence's history.
  int64_t truncate(SequenceId sequence, int64_t positions);
  void release(SequenceId sequence);  // a sequence that it does not know is no error
  // Makes `to`, which holds nothing yet, share the pages that wholly lie in the first `positions`
  // of `from`; returns the positions shared (0 when `to` already holds pages).
  int64_t share(SequenceId from, SequenceId to, int64_t positions);

  const std::vector<std::vector<PageId>>& tables(SequenceId sequence) const;  // [group][index]
  int64_t free_pages() const;  // of the fullest group
  int64_t page_count() const;
  int64_t pages_for(int64_t positions) const;
  int page_tokens() const { return page_tokens_; }
  size_t group_count() const { return free_.size(); }

 private:
  using Tables = std::vector<std::vector<PageId>>;
  void drop_from(Tables& tables, int64_t first_page);

  int page_tokens_;
  int64_t page_count_;
  std::vector<std::vector<PageId>> free_;          // per group
  std::vector<std::vector<uint32_t>> references_;  // per group and page
  std::unordered_map<SequenceId, Tables> sequences_;
  Tables empty_;  // of sequences that are not known
};

}  // namespace shoal
