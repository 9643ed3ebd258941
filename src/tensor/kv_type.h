// The types in which a KV cache can keep keys and values, and the bytes that they take. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace shoal {

// q8_0: as the element type Q8_0, int8 with a binary16 scale for each 32 elements of a head.
enum class KvType : uint8_t { kF32, kF16, kQ8_0 };
inline constexpr KvType kKvTypes[] = {KvType::kF32, KvType::kF16, KvType::kQ8_0};
inline constexpr int kKvBlock = 32;  // elements that share a scale; a head's last may be fewer

std::string_view kv_type_name(KvType type);           // "f32", "f16", "q8_0"
Result<KvType> kv_type_named(std::string_view name);  // kInvalidArgument

// Of the keys, or of the values, of one position and one head.
uint64_t kv_head_bytes(KvType type, int64_t head_dimension);

}  // namespace shoal
