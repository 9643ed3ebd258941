#include "kernels/kv_storage.h"

#include <cstring>

namespace shoal::kernels {

Result<KvStorage> KvStorage::create(const CacheGroupSpec& spec, KvType type, int64_t pages) {
  if (pages < 0)
    return fail(ErrorCode::kInvalidArgument, "a KV cache of {} pages cannot be", pages);
  KvStorage storage;
  storage.type_ = type;
  storage.pages_ = pages;
  storage.head_dimension_ = spec.head_dimension;
  storage.block_bytes_ =
      kPageTokens * static_cast<int64_t>(kv_head_bytes(type, spec.head_dimension));
  storage.blocks_per_head_ = spec.value_in_key > 0 ? 1 : 2;
  storage.page_stride_bytes_ = storage.blocks_per_head_ * spec.kv_heads * storage.block_bytes_;
  int64_t total = 0;
  if (__builtin_mul_overflow(storage.page_stride_bytes_, pages, &total) ||
      __builtin_mul_overflow(total, int64_t{spec.layer_count}, &total)) {
    return fail(ErrorCode::kDoesNotFit, "a KV cache of {} pages is more than any machine holds",
                pages);
  }
  const std::string what = fmt::format("the KV cache of {} positions", pages * kPageTokens);
  SHOAL_ASSIGN(storage.region_, MemoryRegion::create(static_cast<uint64_t>(total), what));
  return storage;
}

void KvStorage::store(const KernelTable& kernels, const float* in, uint8_t* page,
                      int64_t offset) const {
  const int64_t first = offset * head_dimension_;
  switch (type_) {
    case KvType::kF32:
      std::memcpy(page + 4 * first, in, static_cast<size_t>(4 * head_dimension_));
      break;
    case KvType::kF16:
      kernels.store_f16(in, head_dimension_, reinterpret_cast<uint16_t*>(page + 2 * first));
      break;
    case KvType::kQ8_0:
      auto* scales = reinterpret_cast<uint16_t*>(page + kv_scales_offset(head_dimension_));
      kernels.store_q8(in, head_dimension_, reinterpret_cast<int8_t*>(page + first),
                       scales + offset * kv_scales_count(head_dimension_));
      break;
  }
}

}  // namespace shoal::kernels
