#include "kernels/file_blocks.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"
#include "kernels/small_floats.h"

namespace shoal::kernels {
namespace {

// --- codes ---

void nibbles(const uint8_t* packed, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = packed[j] & 15;
    codes[j + 16] = packed[j] >> 4;
  }
}

// Sub-block `index` of a block of 256: 4-bit codes in Q4_K's order, 2-bit ones in Q2_K's, and bits
// above them in that of Q3_K and Q5_K.
void k_nibbles(const uint8_t* packed, int index, uint8_t* codes) {
  const int shift = index % 2 * 4;
  for (int i = 0; i < 32; ++i) codes[i] = packed[index / 2 * 32 + i] >> shift & 15;
}
void k_pairs(const uint8_t* packed, int index, uint8_t* codes) {
  const int shift = index % 4 * 2;
  for (int i = 0; i < 32; ++i) codes[i] = packed[index / 4 * 32 + i] >> shift & 3;
}
void add_k_bits(const uint8_t* packed, int index, int place, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) {
    codes[i] = static_cast<uint8_t>(codes[i] | (packed[i] >> index & 1) << place);
  }
}

// --- blocks ---

// Types of 32 elements with 4-bit codes, or 5-bit ones whose fifth bits lie together.
void legacy(const TypeForm& form, const uint8_t* block, SubBlock& out) {
  out.d = form.exponent ? *block : load_u16(block);
  block += form.exponent ? 1 : 2;
  if (form.minimum) {
    out.m = load_u16(block);
    block += 2;
  }
  const uint8_t* fifth = block;
  if (form.high_bits == 1) block += 4;
  nibbles(block, out.codes);
  if (form.high_bits == 0) return;
  for (int byte = 0; byte < 4; ++byte) {
    for (int i = 0; i < 8; ++i) {
      uint8_t& code = out.codes[8 * byte + i];
      code = static_cast<uint8_t>(code | (fifth[byte] >> i & 1) << 4);
    }
  }
}

void q8_0(const uint8_t* block, SubBlock& out) {
  out.d = load_u16(block);
  std::memcpy(out.codes, block + 2, 32);
}

void q2_k(const uint8_t* block, int index, SubBlock& out) {
  out.d = load_u16(block + 80);
  out.m = load_u16(block + 82);
  for (int half = 0; half < 2; ++half) {
    const uint8_t both = block[2 * index + half];
    out.scales[half] = static_cast<int8_t>(both & 15);
    out.minima[half] = both >> 4;
  }
  k_pairs(block + 16, index, out.codes);
}

void q3_k(const uint8_t* block, int index, SubBlock& out) {
  out.d = load_u16(block + 108);
  const uint8_t* packed = block + 96;
  for (int half = 0; half < 2; ++half) {
    const int j = 2 * index + half;
    const int low = packed[j % 8] >> (j / 8 * 4) & 15;
    const int high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
    out.scales[half] = static_cast<int8_t>((low | high << 4) - 32);
  }
  k_pairs(block + 32, index, out.codes);
  add_k_bits(block, index, 2, out.codes);
}

void q4_k_or_q5_k(const TypeForm& form, const uint8_t* block, int index, SubBlock& out) {
  out.d = load_u16(block);
  out.m = load_u16(block + 2);
  const uint8_t* packed = block + 4;
  int scale, minimum;
  if (index < 4) {
    scale = packed[index] & 63;
    minimum = packed[index + 4] & 63;
  } else {
    scale = (packed[index + 4] & 15) | (packed[index - 4] >> 6) << 4;
    minimum = (packed[index + 4] >> 4) | (packed[index] >> 6) << 4;
  }
  out.scales[0] = out.scales[1] = static_cast<int8_t>(scale);
  out.minima[0] = out.minima[1] = static_cast<uint8_t>(minimum);
  k_nibbles(block + (form.high_bits == 1 ? 48 : 16), index, out.codes);
  if (form.high_bits == 1) add_k_bits(block + 16, index, 4, out.codes);
}

void q6_k(const uint8_t* block, int index, SubBlock& out) {
  out.d = load_u16(block + 208);
  std::memcpy(out.scales, block + 192 + 2 * index, 2);
  // Half a block at a time: 64 low bytes, 32 high ones, four runs of 32 elements.
  const int half = index / 4, run = index % 4;
  const uint8_t* low = block + 64 * half + 32 * (run % 2);
  const uint8_t* high = block + 128 + 32 * half;
  const int low_shift = run / 2 * 4, high_shift = run * 2;
  for (int i = 0; i < 32; ++i) {
    out.codes[i] =
        static_cast<uint8_t>((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4);
  }
}

void iq4_xs(const uint8_t* block, int index, SubBlock& out) {
  out.d = load_u16(block);
  const int low = block[4 + index / 2] >> (index % 2 * 4) & 15;
  const int high = load_u16(block + 2) >> (2 * index) & 3;
  out.scales[0] = out.scales[1] = static_cast<int8_t>((low | high << 4) - 32);
  nibbles(block + 8 + 16 * index, out.codes);
}

}  // namespace

SubBlock read_sub_block(const TypeForm& form, const uint8_t* blocks, int64_t first) {
  const ElementTraits& traits = element_traits(form.type);
  const uint8_t* block = blocks + first / traits.block_elements * traits.block_bytes;
  const int index = static_cast<int>(first % traits.block_elements / 32);
  SubBlock out = {};
  switch (form.type) {
    case ElementType::kQ8_0:
      q8_0(block, out);
      break;
    case ElementType::kQ2_K:
      q2_k(block, index, out);
      break;
    case ElementType::kQ3_K:
      q3_k(block, index, out);
      break;
    case ElementType::kQ4_K:
    case ElementType::kQ5_K:
      q4_k_or_q5_k(form, block, index, out);
      break;
    case ElementType::kQ6_K:
      q6_k(block, index, out);
      break;
    case ElementType::kIQ4_XS:
      iq4_xs(block, index, out);
      break;
    default:
      legacy(form, block, out);
  }
  return out;
}

void evaluate(const TypeForm& form, const SubBlock& block, float* out) {
  const float d = form.exponent ? exponent_to_float(block.d) : half_to_float(block.d);
  const float m = half_to_float(block.m);
  for (int half = 0; half < 2; ++half) {
    const bool integers = form.sub_scales != SubScales::kNone;
    const float step = integers ? d * static_cast<float>(block.scales[half]) : d;
    const float offset = integers ? -(m * static_cast<float>(block.minima[half])) : m;
    for (int i = 16 * half; i < 16 * half + 16; ++i) {
      const int value = form.table != Table::kNone
                            ? values_of(form.table)[block.codes[i]]
                            : static_cast<int8_t>(block.codes[i]) - form.center;
      out[i] = step * static_cast<float>(value);
    }
    if (!form.minimum) continue;  // adding zero would lose a negative zero
    for (int i = 16 * half; i < 16 * half + 16; ++i) out[i] += offset;
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
    default:
      break;
  }
  const TypeForm* form = find_type_form(type);
  SHOAL_CHECK(form != nullptr);
  while (count > 0) {
    float values[32];
    const int64_t skip = first % 32, taken = std::min<int64_t>(count, 32 - skip);
    evaluate(*form, read_sub_block(*form, blocks, first - skip), values);
    std::copy_n(values + skip, taken, out);
    first += taken;
    count -= taken;
    out += taken;
  }
}

}  // namespace shoal::kernels
