// The bytes of the KV cache of one cache group. Owned by the backend's thread.
#pragma once

#include "base/result.h"
#include "kernels/kernel_table.h"
#include "kernels/memory_region.h"
#include "tensor/backend.h"

namespace shoal::kernels {

// Laid out as [layer][KV head][K, V][page], so that what attention reads of pages that follow one
// another is one stream, which memory delivers a third faster than pages 64 KB apart; and a page
// that no sequence has reached is memory that nobody has touched. In a page, K is [element]
// [position], so that scores are computed for positions side by side, V [position][element]; of
// q8_0 the codes, then scales f16 [block of 32 elements][position].
class KvStorage {
 public:
  // kDoesNotFit for more than is free.
  static Result<KvStorage> create(const CacheGroupSpec& spec, KvType type, int64_t pages);
  KvStorage() = default;

  KvType type() const { return type_; }
  int64_t pages() const { return pages_; }
  uint64_t bytes() const { return region_.size(); }
  int64_t page_stride_bytes() const { return block_bytes_; }
  int64_t position_bytes() const {  // of all heads of a layer
    return blocks_per_head_ * kv_heads_ * block_bytes_ / kPageTokens;
  }

  // Writes what one head keeps of position `offset` of a page: the elements of `in`.
  void store_key(const KernelTable& kernels, const float* in, uint8_t* page, int64_t offset) const {
    store(kernels, in, page, offset, kPageTokens, 1);
  }
  void store_value(const KernelTable& kernels, const float* in, uint8_t* page,
                   int64_t offset) const {
    store(kernels, in, page, offset, 1, head_dimension_);
  }

  uint8_t* keys(int layer, int64_t page, int head) const {
    const int64_t stream = (int64_t{layer} * kv_heads_ + head) * blocks_per_head_;
    return region_.data() + (stream * pages_ + page) * block_bytes_;
  }
  // Of a group that keeps values in its keys: those.
  uint8_t* values(int layer, int64_t page, int head) const {
    return keys(layer, page, head) + (blocks_per_head_ - 1) * pages_ * block_bytes_;
  }
  bool keeps_values() const { return blocks_per_head_ == 2; }

 private:
  // Element i goes to offset * position_stride + i * element_stride.
  void store(const KernelTable& kernels, const float* in, uint8_t* page, int64_t offset,
             int64_t element_stride, int64_t position_stride) const;

  KvType type_ = KvType::kF16;
  int64_t pages_ = 0;
  int64_t kv_heads_ = 0;
  int64_t head_dimension_ = 0;
  int64_t block_bytes_ = 0;  // K or V of one page and head
  int64_t blocks_per_head_ = 2;
  MemoryRegion region_;
};

}  // namespace shoal::kernels
