#include "tensor/kv_type.h"

namespace shoal {

std::string_view kv_type_name(KvType type) {
  switch (type) {
    case KvType::kF32:
      return "f32";
    case KvType::kF16:
      return "f16";
    case KvType::kQ8_0:
      return "q8_0";
  }
  return "";
}

Result<KvType> kv_type_named(std::string_view name) {
  for (const KvType type : kKvTypes) {
    if (name == kv_type_name(type)) return type;
  }
  return fail(ErrorCode::kInvalidArgument, "'{}' is not a type of KV cache; write f16, q8_0 or f32",
              name);
}

uint64_t kv_head_bytes(KvType type, int64_t head_dimension) {
  const auto elements = static_cast<uint64_t>(head_dimension);
  switch (type) {
    case KvType::kF32:
      return 4 * elements;
    case KvType::kF16:
      return 2 * elements;
    case KvType::kQ8_0:
      return elements + 2 * ((elements + kKvBlock - 1) / kKvBlock);
  }
  return 0;
}

}  // namespace shoal
