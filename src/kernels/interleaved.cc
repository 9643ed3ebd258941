#include "kernels/interleaved.h"

#include <cstring>

#include "base/result.h"
#include "kernels/file_blocks.h"
#include "kernels/kernel_table.h"
#include "kernels/small_floats.h"

namespace shoal::kernels {
namespace {

constexpr int kVectorBytes = kGroupRows * 4;

// 32 codes of one row into nibbles: byte 4 i + t holds column 4 i + t low and 16 + 4 i + t high.
void put_nibbles(const uint8_t* codes, int row, uint8_t* out) {
  for (int j = 0; j < 16; ++j) {
    out[j / 4 * kVectorBytes + row * 4 + j % 4] =
        static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
  }
}

int nibble(const uint8_t* vectors, int row, int column) {
  const int j = column % 16;
  return vectors[j / 4 * kVectorBytes + row * 4 + j % 4] >> (column / 16 * 4) & 15;
}

// Four bytes of one row for each of `count` vectors, as they lie in the file.
void put_quads(const uint8_t* bytes, int count, int row, uint8_t* out) {
  for (int i = 0; i < count; ++i) std::memcpy(out + i * kVectorBytes + row * 4, bytes + 4 * i, 4);
}

// Byte t of a row in half h: bits 2 i and up belong to column 16 h + 4 i + t.
void put_high_bits(const uint8_t* codes, int row, uint8_t* out) {
  for (int half = 0; half < 2; ++half) {
    for (int t = 0; t < 4; ++t) {
      unsigned bits = 0;
      for (int i = 0; i < 4; ++i) bits |= (codes[16 * half + 4 * i + t] >> 4 & 3u) << (2 * i);
      out[half * kVectorBytes + row * 4 + t] = static_cast<uint8_t>(bits);
    }
  }
}

int high_bits(const uint8_t* vectors, int row, int column) {
  const int i = column % 16 / 4;
  return vectors[column / 16 * kVectorBytes + row * 4 + column % 4] >> (2 * i) & 3;
}

// `source`: the block that holds sub-block 0 of the piece. One row of a piece into its place.
void pack_legacy(ElementType type, const uint8_t* source, int row, int64_t n, uint8_t* out) {
  const PieceOffsets at = piece_offsets(type, 32 * n);
  const int64_t block_bytes = element_traits(type).block_bytes;
  for (int64_t b = 0; b < n; ++b, source += block_bytes) {
    const uint8_t* codes = source + 2;
    std::memcpy(out + at.scales + 32 * b + 2 * row, source, 2);
    if (type == ElementType::kQ4_1) {
      std::memcpy(out + at.minima + 32 * b + 2 * row, source + 2, 2);
      codes = source + 4;
    }
    // A file's byte j of 4-bit codes holds elements j and j + 16, which is what a vector wants.
    const int quads = type == ElementType::kQ8_0 ? 8 : 4;
    put_quads(codes, quads, row, out + at.codes + b * quads * kVectorBytes);
  }
}

void pack_q4_k(const uint8_t* block, int first_sub_block, int row, int64_t n, uint8_t* out) {
  const PieceOffsets at = piece_offsets(ElementType::kQ4_K, 32 * n);
  std::memcpy(out + 2 * row, block, 2);
  std::memcpy(out + 32 + 2 * row, block + 2, 2);
  for (int b = 0; b < n; ++b) {
    uint8_t codes[32];
    q4_k_scale(block, first_sub_block + b, out[at.scales + 16 * b + row],
               out[at.minima + 16 * b + row]);
    q4_k_codes(block, first_sub_block + b, codes);
    put_nibbles(codes, row, out + at.codes + b * 4 * kVectorBytes);
  }
}

void pack_q6_k(const uint8_t* block, int first_sub_block, int row, int64_t n, uint8_t* out) {
  const PieceOffsets at = piece_offsets(ElementType::kQ6_K, 32 * n);
  std::memcpy(out + 2 * row, block + 208, 2);
  for (int b = 0; b < n; ++b) {
    const int sub = first_sub_block + b;
    uint8_t codes[32];
    q6_k_codes(block, sub, codes);
    out[at.scales + 32 * b + row] = block[192 + 2 * sub];
    out[at.scales + 32 * b + 16 + row] = block[192 + 2 * sub + 1];
    put_nibbles(codes, row, out + at.codes + b * 4 * kVectorBytes);
    put_high_bits(codes, row, out + at.high_bits + b * 2 * kVectorBytes);
  }
}

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

void pack_row(ElementType type, const uint8_t* source_row, const ColumnPiece& piece, int row,
              uint8_t* out) {
  const ElementTraits& traits = element_traits(type);
  const uint8_t* source =
      source_row + piece.source_column / traits.block_elements * traits.block_bytes;
  const int first_sub_block = static_cast<int>(piece.source_column % kPieceColumns / kSubBlock);
  const int64_t n = piece.count / kSubBlock;
  switch (type) {
    case ElementType::kF32:
    case ElementType::kF16:
    case ElementType::kBF16:
      return pack_floats(type, source, row, piece.count, out);
    case ElementType::kQ8_0:
    case ElementType::kQ4_0:
    case ElementType::kQ4_1:
      return pack_legacy(type, source, row, n, out);
    case ElementType::kQ4_K:
      return pack_q4_k(source, first_sub_block, row, n, out);
    case ElementType::kQ6_K:
      return pack_q6_k(source, first_sub_block, row, n, out);
  }
  SHOAL_CHECK(!"a type without a layout");
}

// The formulas of file_blocks.h, from the interleaved bytes: the same operations in the same order.
void unpack_sub_block(ElementType type, const uint8_t* piece, int64_t columns, int row, int64_t b,
                      float* out) {
  const PieceOffsets at = piece_offsets(type, columns);
  const uint8_t* nibbles = piece + at.codes + b * 4 * kVectorBytes;
  for (int c = 0; c < kSubBlock; ++c) {
    switch (type) {
      case ElementType::kQ8_0: {
        const uint8_t* codes = piece + at.codes + b * 8 * kVectorBytes;
        const auto q = static_cast<int8_t>(codes[c / 4 * kVectorBytes + row * 4 + c % 4]);
        out[c] = load_half(piece + 32 * b + 2 * row) * static_cast<float>(q);
        break;
      }
      case ElementType::kQ4_0:
        out[c] =
            load_half(piece + 32 * b + 2 * row) * static_cast<float>(nibble(nibbles, row, c) - 8);
        break;
      case ElementType::kQ4_1:
        out[c] = load_half(piece + 32 * b + 2 * row) * static_cast<float>(nibble(nibbles, row, c)) +
                 load_half(piece + at.minima + 32 * b + 2 * row);
        break;
      case ElementType::kQ4_K: {
        const float step =
            load_half(piece + 2 * row) * static_cast<float>(piece[at.scales + 16 * b + row]);
        const float offset =
            load_half(piece + 32 + 2 * row) * static_cast<float>(piece[at.minima + 16 * b + row]);
        out[c] = step * static_cast<float>(nibble(nibbles, row, c)) - offset;
        break;
      }
      default: {  // Q6_K
        const auto scale = static_cast<int8_t>(piece[at.scales + 32 * b + c / 16 * 16 + row]);
        const int q = nibble(nibbles, row, c) |
                      high_bits(piece + at.high_bits + b * 2 * kVectorBytes, row, c) << 4;
        out[c] =
            load_half(piece + 2 * row) * static_cast<float>(scale) * static_cast<float>(q - 32);
      }
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
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    if (element_traits(matrix.type).block_elements == 1) {
      unpack_floats(matrix.type, bytes, piece.count, lane, out + piece.first);
    } else {
      for (int64_t b = 0; b < piece.count / kSubBlock; ++b) {
        unpack_sub_block(matrix.type, bytes, piece.count, lane, b,
                         out + piece.first + b * kSubBlock);
      }
    }
    bytes += piece_offsets(matrix.type, piece.count).total;
  }
}

}  // namespace shoal::kernels
