// The bytes of the KV cache of one cache group. Owned by the backend's thread.
#pragma once

#include "base/result.h"
#include "kernels/kernel_table.h"
#include "kernels/memory_region.h"
#include "tensor/backend.h"

namespace shoal::kernels {

// Laid out as [layer][page][KV head][K, V], each of them, of f32 and f16, [position in page][head
// dimension]; of q8_0 codes [position][dimension], then scales f16 [position][dimension / 32,
// rounded up]. What attention reads of a page for one head is contiguous, and a page that no
// sequence has reached is memory that nobody has touched.
class KvStorage {
 public:
  // kDoesNotFit for more than is free.
  static Result<KvStorage> create(const CacheGroupSpec& spec, KvType type, int64_t pages);
  KvStorage() = default;

  KvType type() const { return type_; }
  int64_t pages() const { return pages_; }
  uint64_t bytes() const { return region_.size(); }
  int64_t page_stride_bytes() const { return page_stride_bytes_; }

  // Writes what one head keeps of position `offset` of a page: the elements of `in`.
  void store(const KernelTable& kernels, const float* in, uint8_t* page, int64_t offset) const;

  uint8_t* keys(int layer, int64_t page, int head) const {
    return region_.data() + (layer * pages_ + page) * page_stride_bytes_ +
           blocks_per_head_ * head * block_bytes_;
  }
  // Of a group that keeps values in its keys: those.
  uint8_t* values(int layer, int64_t page, int head) const {
    return keys(layer, page, head) + (blocks_per_head_ - 1) * block_bytes_;
  }
  bool keeps_values() const { return blocks_per_head_ == 2; }

 private:
  KvType type_ = KvType::kF16;
  int64_t pages_ = 0;
  int64_t head_dimension_ = 0;
  int64_t block_bytes_ = 0;  // K or V of one page and head
  int64_t blocks_per_head_ = 2;
  int64_t page_stride_bytes_ = 0;
  MemoryRegion region_;
};

}  // namespace shoal::kernels
