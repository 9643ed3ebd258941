#include "kernels/kv_storage.h"

#include <algorithm>
#include <type_traits>

namespace shoal::kernels {

Result<KvStorage> KvStorage::create(const CacheGroupSpec& spec, KvType type, int64_t pages) {
  if (pages < 0)
    return fail(ErrorCode::kInvalidArgument, "a KV cache of {} pages cannot be", pages);
  KvStorage storage;
  storage.type_ = type;
  storage.pages_ = pages;
  storage.kv_heads_ = spec.kv_heads;
  storage.head_dimension_ = spec.head_dimension;
  storage.block_bytes_ =
      kPageTokens * static_cast<int64_t>(kv_head_bytes(type, spec.head_dimension));
  storage.blocks_per_head_ = spec.value_in_key > 0 ? 1 : 2;
  const int64_t page_bytes = storage.blocks_per_head_ * spec.kv_heads * storage.block_bytes_;
  int64_t total = 0;
  if (__builtin_mul_overflow(page_bytes, pages, &total) ||
      __builtin_mul_overflow(total, int64_t{spec.layer_count}, &total)) {
    return fail(ErrorCode::kDoesNotFit, "a KV cache of {} pages is more than any machine holds",
                pages);
  }
  const std::string what = fmt::format("the KV cache of {} positions", pages * kPageTokens);
  SHOAL_ASSIGN(storage.region_, MemoryRegion::create(static_cast<uint64_t>(total), what));
  return storage;
}

void KvStorage::store(const KernelTable& kernels, const float* in, uint8_t* page, int64_t offset,
                      int64_t element_stride, int64_t position_stride) const {
  // A block of 32 elements at a time, packed by the kernels and then put where they belong.
  const auto put = [&](const auto* elements, int64_t first, int64_t count) {
    auto* out = reinterpret_cast<std::remove_cvref_t<decltype(*elements)>*>(page) +
                offset * position_stride + first * element_stride;
    for (int64_t i = 0; i < count; ++i) out[i * element_stride] = elements[i];
  };
  for (int64_t first = 0; first < head_dimension_; first += kKvBlock) {
    const int64_t count = std::min<int64_t>(kKvBlock, head_dimension_ - first);
    if (type_ == KvType::kF32) {
      put(in + first, first, count);
    } else if (type_ == KvType::kF16) {
      uint16_t halves[kKvBlock];
      kernels.store_f16(in + first, count, halves);
      put(halves, first, count);
    } else {
      int8_t codes[kKvBlock];
      auto* scales = reinterpret_cast<uint16_t*>(page + kv_scales_offset(head_dimension_));
      kernels.store_q8(in + first, count, codes, scales + kv_scale_index(offset, first));
      put(codes, first, count);
    }
  }
}

}  // namespace shoal::kernels
