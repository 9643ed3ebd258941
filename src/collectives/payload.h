// How numbers travel between ranks: the types of a payload. Pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace shoal {

enum class Payload : uint8_t {
  kF32,
  kBf16,  // the upper half of a binary32, rounded to nearest, ties to even
  kInt8,  // blocks of 32 with a bf16 scale each: 34 bytes for 32 numbers
};
inline constexpr std::array kPayloads = {Payload::kF32, Payload::kBf16, Payload::kInt8};

// How a stage passes its rows on where sums travel as this. Every error of a stream stays in it,
// and eight bits cost an order of magnitude more than in sums (docs/correctness.md), for what is
// sent once per stage and not twice per layer.
inline Payload stream_payload(Payload sums) {
  return sums == Payload::kInt8 ? Payload::kBf16 : sums;
}

std::string_view payload_name(Payload payload);        // "f32", "bf16", "int8"
Result<Payload> payload_named(std::string_view name);  // kInvalidArgument

}  // namespace shoal
