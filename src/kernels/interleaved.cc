#include "kernels/interleaved.h"

#include <cstring>

#include "base/result.h"
#include "kernels/file_blocks.h"
#include "kernels/kernel_table.h"
#include "kernels/small_floats.h"

namespace shoal::kernels {
namespace {

constexpr int kVectorBytes = kGroupRows * 4;

// --- planes of codes: kBits of each of a row's 32 codes, in kBits vectors ---

// The column whose bits are number `slot` from below in byte 0 of vector `index`; bytes 1 to 3 hold
// those of the columns after it. Nibbles lie as in the file.
template <int kBits>
constexpr int plane_column(int index, int slot) {
  return kBits == 4 ? 4 * index + 16 * slot : 4 * (8 / kBits * index + slot);
}
// kBits ones at the bottom of each of four bytes: four codes are moved as one word.
template <int kBits>
constexpr uint32_t kPlaneMask = 0x01010101u * ((1u << kBits) - 1);

template <int kBits>
void put_plane(const uint8_t* codes, int shift, int row, uint8_t* out) {
  for (int index = 0; index < kBits; ++index) {
    uint32_t bytes = 0;
    for (int slot = 0; slot < 8 / kBits; ++slot) {
      uint32_t four;
      std::memcpy(&four, codes + plane_column<kBits>(index, slot), sizeof four);
      bytes |= (four >> shift & kPlaneMask<kBits>) << (kBits * slot);
    }
    std::memcpy(out + index * kVectorBytes + row * 4, &bytes, sizeof bytes);
  }
}

template <int kBits>
void take_plane(const uint8_t* plane, int shift, int row, uint8_t* codes) {
  for (int index = 0; index < kBits; ++index) {
    uint32_t bytes;
    std::memcpy(&bytes, plane + index * kVectorBytes + row * 4, sizeof bytes);
    for (int slot = 0; slot < 8 / kBits; ++slot) {
      uint8_t* at = codes + plane_column<kBits>(index, slot);
      uint32_t four;
      std::memcpy(&four, at, sizeof four);
      four |= (bytes >> (kBits * slot) & kPlaneMask<kBits>) << shift;
      std::memcpy(at, &four, sizeof four);
    }
  }
}

void put_codes(int bits, const uint8_t* codes, int shift, int row, uint8_t* out) {
  switch (bits) {
    case 8:
      return put_plane<8>(codes, shift, row, out);
    case 4:
      return put_plane<4>(codes, shift, row, out);
    case 2:
      return put_plane<2>(codes, shift, row, out);
    case 1:
      return put_plane<1>(codes, shift, row, out);
  }
}
void take_codes(int bits, const uint8_t* plane, int shift, int row, uint8_t* codes) {
  switch (bits) {
    case 8:
      return take_plane<8>(plane, shift, row, codes);
    case 4:
      return take_plane<4>(plane, shift, row, codes);
    case 2:
      return take_plane<2>(plane, shift, row, codes);
    case 1:
      return take_plane<1>(plane, shift, row, codes);
  }
}

// --- sub-blocks: what one row of a piece has of 32 columns ---

void put_u16(uint8_t* out, uint16_t value) {
  std::memcpy(out, &value, sizeof value);
}

// Sub-block `b` of `n`.
void put_sub_block(const TypeForm& form, const PieceOffsets& at, const SubBlock& block, int row,
                   int64_t b, int64_t n, uint8_t* piece) {
  const bool super = form.sub_scales != SubScales::kNone;
  const int64_t number = super ? 0 : b;
  if (form.exponent) {
    piece[at.d + 16 * number + row] = static_cast<uint8_t>(block.d);
  } else {
    put_u16(piece + at.d + 32 * number + 2 * row, block.d);
  }
  if (form.minimum) put_u16(piece + at.m + 32 * number + 2 * row, block.m);

  uint8_t* scales = piece + at.scales;
  switch (form.sub_scales) {
    case SubScales::kNone:
      break;
    case SubScales::kPer32:
      scales[16 * b + row] = static_cast<uint8_t>(block.scales[0]);
      if (form.minimum) piece[at.minima + 16 * b + row] = block.minima[0];
      break;
    case SubScales::kPer16:
      for (int half = 0; half < 2; ++half)
        scales[32 * b + 16 * half + row] = static_cast<uint8_t>(block.scales[half]);
      break;
    case SubScales::kNibblesPer16:
      for (int half = 0; half < 2; ++half)
        scales[32 * b + 16 * half + row] =
            static_cast<uint8_t>(block.scales[half] | block.minima[half] << 4);
      break;
    case SubScales::kSixBitsPer16: {
      const int first = block.scales[0] + 32, second = block.scales[1] + 32;
      scales[16 * b + row] = static_cast<uint8_t>((first & 15) | (second & 15) << 4);
      uint8_t& high = scales[16 * (n + b / 2) + row];
      high = static_cast<uint8_t>(high | (first >> 4 | (second >> 4) << 2) << (b % 2 * 4));
      break;
    }
  }
  put_codes(form.low_bits, block.codes, 0, row, piece + at.codes + 64 * form.low_bits * b);
  put_codes(form.high_bits, block.codes, form.low_bits, row,
            piece + at.high_bits + 64 * form.high_bits * b);
}

SubBlock take_sub_block(const TypeForm& form, const uint8_t* piece, int row, int64_t b, int64_t n) {
  const PieceOffsets at = quantised_offsets(form, n);
  const int64_t number = form.sub_scales != SubScales::kNone ? 0 : b;
  SubBlock block = {};
  block.d = form.exponent ? piece[at.d + 16 * number + row]
                          : load_u16(piece + at.d + 32 * number + 2 * row);
  if (form.minimum) block.m = load_u16(piece + at.m + 32 * number + 2 * row);

  const uint8_t* scales = piece + at.scales;
  for (int half = 0; half < 2; ++half) {
    switch (form.sub_scales) {
      case SubScales::kNone:
        break;
      case SubScales::kPer32:
        block.scales[half] = static_cast<int8_t>(scales[16 * b + row]);
        if (form.minimum) block.minima[half] = piece[at.minima + 16 * b + row];
        break;
      case SubScales::kPer16:
        block.scales[half] = static_cast<int8_t>(scales[32 * b + 16 * half + row]);
        break;
      case SubScales::kNibblesPer16: {
        const uint8_t both = scales[32 * b + 16 * half + row];
        block.scales[half] = static_cast<int8_t>(both & 15);
        block.minima[half] = both >> 4;
        break;
      }
      case SubScales::kSixBitsPer16: {
        const int low = scales[16 * b + row] >> (4 * half) & 15;
        const int high = scales[16 * (n + b / 2) + row] >> (b % 2 * 4 + 2 * half) & 3;
        block.scales[half] = static_cast<int8_t>((low | high << 4) - 32);
        break;
      }
    }
  }
  take_codes(form.low_bits, piece + at.codes + 64 * form.low_bits * b, 0, row, block.codes);
  take_codes(form.high_bits, piece + at.high_bits + 64 * form.high_bits * b, form.low_bits, row,
             block.codes);
  return block;
}

// --- plain floats ---

void pack_floats(ElementType type, const uint8_t* source, int row, int64_t columns, uint8_t* out) {
  for (int64_t c = 0; c < columns; ++c) {
    switch (type) {
      case ElementType::kF32:
        std::memcpy(out + 64 * c + 4 * row, source + 4 * c, 4);
        break;
      case ElementType::kF16:
        std::memcpy(out + 32 * c + 2 * row, source + 2 * c, 2);
        break;
      default:
        std::memcpy(out + 64 * (c / 2) + 4 * row + 2 * (c % 2), source + 2 * c, 2);
    }
  }
}

void unpack_floats(ElementType type, const uint8_t* piece, int64_t columns, int row, float* out) {
  for (int64_t c = 0; c < columns; ++c) {
    switch (type) {
      case ElementType::kF32:
        std::memcpy(out + c, piece + 64 * c + 4 * row, 4);
        break;
      case ElementType::kF16:
        out[c] = load_half(piece + 32 * c + 2 * row);
        break;
      default:
        out[c] = bfloat_to_float(load_u16(piece + 64 * (c / 2) + 4 * row + 2 * (c % 2)));
    }
  }
}

// --- pieces ---

void pack_row(ElementType type, const uint8_t* source_row, const ColumnPiece& piece, int row,
              uint8_t* out) {
  const TypeForm* form = find_type_form(type);
  if (form == nullptr) {
    const int64_t element_bytes = element_traits(type).block_bytes;
    return pack_floats(type, source_row + piece.source_column * element_bytes, row, piece.count,
                       out);
  }
  const int64_t n = piece.count / kSubBlock;
  const PieceOffsets at = quantised_offsets(*form, n);
  for (int64_t b = 0; b < n; ++b) {
    const int64_t column = piece.source_column + kSubBlock * b;
    put_sub_block(*form, at, read_sub_block(*form, source_row, column), row, b, n, out);
  }
}

}  // namespace

int64_t interleaved_unit_bytes(ElementType type, const ColumnPiece* pieces, int64_t piece_count) {
  int64_t sum = 0;
  for (int64_t i = 0; i < piece_count; ++i) sum += piece_offsets(type, pieces[i].count).total;
  return sum;
}

void interleaved_pack(ElementType type, const uint8_t* const* rows, const ColumnPiece* pieces,
                      int64_t piece_count, uint8_t* out) {
  for (int64_t i = 0; i < piece_count; ++i) {
    const int64_t bytes = piece_offsets(type, pieces[i].count).total;
    std::memset(out, 0, static_cast<size_t>(bytes));  // rows beyond the last: scales of zero
    for (int row = 0; row < kGroupRows; ++row) {
      if (rows[row] != nullptr) pack_row(type, rows[row], pieces[i], row, out);
    }
    out += bytes;
  }
}

void interleaved_unpack_row(const MatrixView& matrix, int64_t row, float* out) {
  const uint8_t* bytes = matrix.bytes + row / kGroupRows * matrix.unit_bytes;
  const int lane = static_cast<int>(row % kGroupRows);
  const TypeForm* form = find_type_form(matrix.type);
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    const int64_t n = piece.count / kSubBlock;
    if (form == nullptr) {
      unpack_floats(matrix.type, bytes, piece.count, lane, out + piece.first);
    } else {
      for (int64_t b = 0; b < n; ++b) {
        evaluate(*form, take_sub_block(*form, bytes, lane, b, n),
                 out + piece.first + b * kSubBlock);
      }
    }
    bytes += piece_offsets(matrix.type, piece.count).total;
  }
}

}  // namespace shoal::kernels
