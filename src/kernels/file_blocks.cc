#include "kernels/file_blocks.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"
#include "kernels/small_floats.h"

namespace shoal::kernels {
namespace {

void q8_0(const uint8_t* block, float* out) {
  const float d = load_half(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

void q4_0(const uint8_t* block, float* out) {
  const float d = load_half(block);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((block[2 + i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((block[2 + i] >> 4) - 8);
  }
}

void q4_1(const uint8_t* block, float* out) {
  const float d = load_half(block);
  const float m = load_half(block + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(block[4 + i] & 15) + m;
    out[i + 16] = d * static_cast<float>(block[4 + i] >> 4) + m;
  }
}

void q4_k(const uint8_t* block, float* out) {
  const float d = load_half(block);
  const float dmin = load_half(block + 2);
  for (int sub = 0; sub < 8; ++sub) {
    uint8_t scale, minimum, codes[32];
    q4_k_scale(block, sub, scale, minimum);
    q4_k_codes(block, sub, codes);
    const float step = d * static_cast<float>(scale);
    const float offset = dmin * static_cast<float>(minimum);
    for (int i = 0; i < 32; ++i) out[32 * sub + i] = step * static_cast<float>(codes[i]) - offset;
  }
}

void q6_k(const uint8_t* block, float* out) {
  const float d = load_half(block + 208);
  for (int sub = 0; sub < 8; ++sub) {
    uint8_t codes[32];
    q6_k_codes(block, sub, codes);
    for (int i = 0; i < 32; ++i) {
      const auto scale = static_cast<int8_t>(block[192 + 2 * sub + i / 16]);
      out[32 * sub + i] = d * static_cast<float>(scale) * static_cast<float>(codes[i] - 32);
    }
  }
}

template <typename Decode>
void through_blocks(const uint8_t* blocks, int elements, int bytes, int64_t first, int64_t count,
                    float* out, Decode decode) {
  float block[256];
  while (count > 0) {
    decode(blocks + first / elements * bytes, block);
    const int64_t skip = first % elements;
    const int64_t taken = std::min<int64_t>(count, elements - skip);
    std::copy_n(block + skip, taken, out);
    first += taken;
    count -= taken;
    out += taken;
  }
}

}  // namespace

void q4_k_scale(const uint8_t* block, int index, uint8_t& scale, uint8_t& minimum) {
  const uint8_t* packed = block + 4;
  if (index < 4) {
    scale = packed[index] & 63;
    minimum = packed[index + 4] & 63;
  } else {
    scale = static_cast<uint8_t>((packed[index + 4] & 15) | (packed[index - 4] >> 6) << 4);
    minimum = static_cast<uint8_t>((packed[index + 4] >> 4) | (packed[index] >> 6) << 4);
  }
}

void q4_k_codes(const uint8_t* block, int index, uint8_t* codes) {
  const uint8_t* packed = block + 16 + index / 2 * 32;
  const int shift = index % 2 * 4;
  for (int i = 0; i < 32; ++i) codes[i] = packed[i] >> shift & 15;
}

void q6_k_codes(const uint8_t* block, int index, uint8_t* codes) {
  // Half a block at a time: 64 low bytes, 32 high ones, four runs of 32 elements.
  const int half = index / 4, run = index % 4;
  const uint8_t* low = block + 64 * half + 32 * (run % 2);
  const uint8_t* high = block + 128 + 32 * half;
  const int low_shift = run / 2 * 4, high_shift = run * 2;
  for (int i = 0; i < 32; ++i) {
    codes[i] = static_cast<uint8_t>((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4);
  }
}

void dequantise(ElementType type, const uint8_t* blocks, int64_t first, int64_t count, float* out) {
  switch (type) {
    case ElementType::kF32:
      std::memcpy(out, blocks + 4 * first, static_cast<size_t>(4 * count));
      return;
    case ElementType::kF16:
      for (int64_t i = 0; i < count; ++i) out[i] = load_half(blocks + 2 * (first + i));
      return;
    case ElementType::kBF16:
      for (int64_t i = 0; i < count; ++i)
        out[i] = bfloat_to_float(load_u16(blocks + 2 * (first + i)));
      return;
    case ElementType::kQ8_0:
      return through_blocks(blocks, 32, 34, first, count, out, q8_0);
    case ElementType::kQ4_0:
      return through_blocks(blocks, 32, 18, first, count, out, q4_0);
    case ElementType::kQ4_1:
      return through_blocks(blocks, 32, 20, first, count, out, q4_1);
    case ElementType::kQ4_K:
      return through_blocks(blocks, 256, 144, first, count, out, q4_k);
    case ElementType::kQ6_K:
      return through_blocks(blocks, 256, 210, first, count, out, q6_k);
  }
  SHOAL_CHECK(!"a type without a decoder");
}

}  // namespace shoal::kernels
