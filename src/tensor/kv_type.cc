#include "tensor/backend.h"

namespace shoal {

std::string_view kv_type_name(KvType type) {
  return type == KvType::kF32 ? "f32" : "f16";
}

Result<KvType> kv_type_named(std::string_view name) {
  if (name == "f32") return KvType::kF32;
  if (name == "f16") return KvType::kF16;
  return fail(ErrorCode::kInvalidArgument, "'{}' is not a type of KV cache; write f16 or f32",
              name);
}

uint64_t kv_element_bytes(KvType type) {
  return type == KvType::kF32 ? 4 : 2;
}

}  // namespace shoal
