#include "kernels/kv_storage.h"

namespace shoal::kernels {

Result<KvStorage> KvStorage::create(const CacheGroupSpec& spec, KvType type, int64_t pages) {
  if (pages < 0)
    return fail(ErrorCode::kInvalidArgument, "a KV cache of {} pages cannot be", pages);
  KvStorage storage;
  storage.type_ = type;
  storage.pages_ = pages;
  storage.block_bytes_ =
      kPageTokens * int64_t{spec.head_dimension} * static_cast<int64_t>(kv_element_bytes(type));
  storage.page_stride_bytes_ = 2 * spec.kv_heads * storage.block_bytes_;
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

}  // namespace shoal::kernels
