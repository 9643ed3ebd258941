// Accounting of KV pages: which pages a sequence holds in each cache group, how often each page is shared. Pure: the bytes
// belong to the backend. Used by one thread (the lead's).
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

  // Grows the sequence's tables to cover `positions`; all or nothing. kDoesNotFit with needed and free pages.
  Status reserve(SequenceId sequence, int64_t positions);
  void truncate(SequenceId sequence, int64_t positions);   // rollback: frees pages wholly beyond
  void release(SequenceId sequence);                       // a sequence that it does not know is no error
  // Makes `to` share the pages that wholly lie in the first `positions` of `from`; returns the positions shared.
  int64_t share(SequenceId from, SequenceId to, int64_t positions);

  const std::vector<std::vector<PageId>>& tables(SequenceId sequence) const;  // [group][index]
  int64_t free_pages() const;       // of the fullest group
  int64_t page_count() const;
  int64_t pages_for(int64_t positions) const;

 private:
  struct Sequence {
    int64_t positions = 0;
    std::vector<std::vector<PageId>> tables;
  };
  int page_tokens_;
  int64_t page_count_;
  std::vector<std::vector<PageId>> free_;          // per group
  std::vector<std::vector<uint32_t>> references_;  // per group and page
  std::unordered_map<SequenceId, Sequence> sequences_;
};

}  // namespace shoal
