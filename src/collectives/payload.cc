#include "collectives/payload.h"

namespace shoal {

std::string_view payload_name(Payload payload) {
  switch (payload) {
    case Payload::kF32:
      return "f32";
    case Payload::kBf16:
      return "bf16";
    case Payload::kInt8:
      return "int8";
  }
  return "unknown";
}

Result<Payload> payload_named(std::string_view name) {
  for (const Payload payload : kPayloads) {
    if (payload_name(payload) == name) return payload;
  }
  return fail(ErrorCode::kInvalidArgument, "the payload '{}' is not known; f32, bf16 and int8 are",
              name);
}

}  // namespace shoal
