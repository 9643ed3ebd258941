// Products of few rows of input with weights that stay packed, read where they lie
// (product_walk.h). Pure; any thread. V as in interleaved_codes.h.
#pragma once

#include "kernels/interleaved_codes.h"
#include "kernels/product_walk.h"

namespace shoal::kernels {

// kApart: the levels of activations lie apart (kernel_table.h), and bytes are multiplied.
template <class V, ElementType kElement, bool kApart>
struct Packed {
  using I = typename V::I;
  using F = typename V::F;
  static constexpr ElementType kType = kElement;
  static constexpr const TypeForm& kForm = type_form(kType);
  // Of types with integer scales: what is summed, then what waits for d.
  static constexpr int kSums = kFloatScaled<kType> ? 16 : 32;
  static constexpr int kRowBlock = [] {
    if constexpr (kApart) {
      return V::kByteRows;
    } else {
      return V::kPairRows;
    }
  }();
  static constexpr bool kPaired = false;

  // dot[m][half]: of the first and the last 16 columns of sub-block b, exactly.
  template <int M>
  static inline __attribute__((always_inline)) void dots(const Codes<V, kType>& codes,
                                                         const Rows<M>& in, int64_t b,
                                                         I (&dot)[M][2]) {
    if constexpr (kApart) {
      byte_dots<M, 0>(codes, in, b, dot);
      byte_dots<M, 1>(codes, in, b, dot);
    } else {
      pair_dots<M>(codes, in, b, dot);
    }
  }
  // Of eight columns at once.
  template <int M, int kHalf>
  static void byte_dots(const Codes<V, kType>& codes, const Rows<M>& in, int64_t b,
                        I (&dot)[M][2]) {
    typename V::ByteSums sums[M];
    unrolled<2>([&]<int k>() __attribute__((always_inline)) {
      constexpr int kEight = 2 * kHalf + k;
      const auto w =
          V::weights(weight_bytes<2 * kEight>(codes), weight_bytes<2 * kEight + 1>(codes));
      for (int m = 0; m < M; ++m)
        V::add_products(sums[m], w, in.codes[m] + kCodeBytes * b + kApartBytes * kEight);
    });
    constexpr int kAbove = V::kUnsignedBytes ? Codes<V, kType>::kRaised : Codes<V, kType>::kCenter;
    for (int m = 0; m < M; ++m)
      dot[m][kHalf] = V::sum_of(sums[m], -kAbove * in.blocks[m][b].half_steps[kHalf]);
  }
  template <int kGroup>
  static inline __attribute__((always_inline)) I weight_bytes(const Codes<V, kType>& codes) {
    if constexpr (V::kUnsignedBytes) {
      return codes.template unsigned_bytes<kGroup>();
    } else {
      return codes.template bytes<kGroup>();
    }
  }
  template <int M>
  static void pair_dots(const Codes<V, kType>& codes, const Rows<M>& in, int64_t b,
                        I (&dot)[M][2]) {
    constexpr int kCenter = Codes<V, kType>::kCenter;
    for (int m = 0; m < M; ++m) {
      for (int half = 0; half < 2; ++half)
        dot[m][half] = V::set32(-kCenter * in.blocks[m][b].half_steps[half]);
    }
    unrolled<8>([&]<int k>() __attribute__((always_inline)) {
      constexpr int kGroup = k / 2 + k % 2 * 4;  // both nibbles of a byte in turn
      I even, odd;
      codes.template pairs<kGroup>(even, odd);
      for (int m = 0; m < M; ++m) {
        const int8_t* x = in.codes[m] + kCodeBytes * b;
        I& to = dot[m][kGroup / 4];
        to = V::dot(to, even, pair_of<V>(x, 2 * kGroup));
        to = V::dot(to, odd, pair_of<V>(x, 2 * kGroup + 1));
      }
    });
  }

  template <int M>
  static void sub_block(const uint8_t* p, const PieceOffsets& at, int64_t columns, int64_t b,
                        const Rows<M>& in, float (*state)[kSums]) {
    for (int part = 0; part < V::kParts; ++part) {
      I dot[M][2];
      dots<M>(Codes<V, kType>(p, at, b, part), in, b, dot);
      if constexpr (kFloatScaled<kType>) {
        const F d = float_scales<V, kType>(p, at, b, part);
        for (int m = 0; m < M; ++m) {
          const BlockSums& block = in.blocks[m][b];
          float* sum = state[m] + V::kLanes * part;
          const F steps = V::to_floats(V::add32(dot[m][0], dot[m][1]));
          // The activations' scale first: d may be close to the smallest of floats.
          F acc = V::fma(V::mul(steps, V::set(block.scale)), d, V::load_floats(sum));
          if constexpr (kForm.minimum) {
            const F minimum = V::halves(p + at.m + 32 * b + 2 * V::kLanes * part);
            acc = V::fma(minimum, V::set(block.weighted_sum), acc);
          }
          V::store_floats(sum, acc);
        }
      } else {
        I scale[2];
        integer_scales<V, kType>(p, at, columns, b, part, scale);
        for (int m = 0; m < M; ++m) {
          const F x = V::set(in.blocks[m][b].scale);
          float* scaled = state[m] + 16 + V::kLanes * part;
          F acc = V::load_floats(scaled);
          if constexpr (kSumsPerHalf<kType>) {
            for (int half = 0; half < 2; ++half)
              acc = V::fma(V::to_floats(V::mul32(dot[m][half], scale[half])), x, acc);
          } else if constexpr (kTwoScales<kType>) {
            const I steps = V::add32(V::mul32(dot[m][0], scale[0]), V::mul32(dot[m][1], scale[1]));
            acc = V::fma(V::to_floats(steps), x, acc);
          } else {
            const I steps = V::mul32(V::add32(dot[m][0], dot[m][1]), scale[0]);
            acc = V::fma(V::to_floats(steps), x, acc);
          }
          V::store_floats(scaled, acc);
        }
      }
    }
  }

  template <int M>
  static void finish(const uint8_t* p, const PieceOffsets& at, int64_t columns, const Rows<M>& in,
                     float (*state)[kSums]) {
    if constexpr (!kFloatScaled<kType>) {
      for (int part = 0; part < V::kParts; ++part) {
        const int first = V::kLanes * part;
        const F d = V::halves(p + at.d + 2 * first);
        F acc[M], offset[M];
        for (int m = 0; m < M; ++m) {
          acc[m] =
              V::fma(d, V::load_floats(state[m] + 16 + first), V::load_floats(state[m] + first));
          V::store_floats(state[m] + 16 + first, V::set(0));
          offset[m] = V::set(0);
        }
        if constexpr (kForm.minimum) {
          for (int64_t b = 0; b < columns / kSubBlock; ++b) {
            I minima[2];
            integer_minima<V, kType>(p, at, b, part, minima);
            for (int m = 0; m < M; ++m)
              offset[m] = add_minima<V, kTwoScales<kType>>(minima, in.blocks[m][b], offset[m]);
          }
          const F dmin = V::halves(p + at.m + 2 * first);
          for (int m = 0; m < M; ++m) acc[m] = V::fnma(dmin, offset[m], acc[m]);
        }
        for (int m = 0; m < M; ++m) V::store_floats(state[m] + first, acc[m]);
      }
    }
  }
};

// As bytes, which cost little to unpack again: many rows too, in blocks whose codes stay in cache.
template <class V, ElementType kType>
static void byte_product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
                         int64_t unit_begin, int64_t unit_end, void* scratch, float* out,
                         int64_t out_stride) {
  constexpr int64_t kBlock = 64;
  for (int64_t row = 0; row < input_rows; row += kBlock) {
    InputRows block = input;
    block.values += row * input.value_stride;
    block.codes += row * input.block_stride * kCodeBytes;
    block.blocks += row * input.block_stride;
    const int64_t count = input_rows - row < kBlock ? input_rows - row : kBlock;
    walk_product<Packed<V, kType, true>>(matrix, block, count, unit_begin, unit_end, scratch,
                                         out + row * out_stride, out_stride);
  }
}

// Floats: even and odd columns have their own sums, which halves the chains of dependent additions.
template <class V, ElementType kElement>
struct Floats {
  using F = typename V::F;
  static constexpr ElementType kType = kElement;
  static constexpr int kSums = 32, kRowBlock = V::kFloatRows;
  static constexpr bool kPaired = true;

  struct Pair {
    F even, odd;
  };
  // Columns c and c + 1; an odd last column of BF16 has a zero beside it.
  static Pair columns_at(const uint8_t* p, int64_t c, int part) {
    if constexpr (kType == ElementType::kF32) {
      const auto* floats = reinterpret_cast<const float*>(p + 64 * c) + V::kLanes * part;
      return {V::load_floats(floats), V::load_floats(floats + 16)};
    } else if constexpr (kType == ElementType::kF16) {
      const uint8_t* at = p + 32 * c + 2 * V::kLanes * part;
      return {V::halves(at), V::halves(at + 32)};
    } else {
      const auto pair = V::load(p + 32 * c + 4 * V::kLanes * part);
      return {V::as_floats(V::template left32<16>(pair)),
              V::as_floats(V::bits_and(pair, V::set32(-65536)))};
    }
  }
  static F column_at(const uint8_t* p, int64_t c, int part) {
    if constexpr (kType == ElementType::kF32) {
      return V::load_floats(reinterpret_cast<const float*>(p + 64 * c) + V::kLanes * part);
    } else if constexpr (kType == ElementType::kF16) {
      return V::halves(p + 32 * c + 2 * V::kLanes * part);
    } else {
      return columns_at(p, c, part).even;
    }
  }

  template <int M>
  static void sub_block(const uint8_t* p, const PieceOffsets&, int64_t columns, int64_t b,
                        const Rows<M>& in, float (*state)[kSums]) {
    // All parts at once where registers suffice: so many more chains of additions.
    constexpr int kAtOnce = M <= 2 ? V::kParts : 1;
    for (int part = 0; part < V::kParts; part += kAtOnce)
      some_parts<M, kAtOnce>(p, part, columns, b, in, state);
  }
  template <int M, int kCount>
  static inline __attribute__((always_inline)) void some_parts(const uint8_t* p, int part,
                                                               int64_t columns, int64_t b,
                                                               const Rows<M>& in,
                                                               float (*state)[kSums]) {
    const int64_t begin = b * kSubBlock;
    const int64_t end = begin + kSubBlock < columns ? begin + kSubBlock : columns;
    F even[M][kCount], odd[M][kCount];
    for (int m = 0; m < M; ++m) {
      for (int i = 0; i < kCount; ++i) {
        even[m][i] = V::load_floats(state[m] + V::kLanes * (part + i));
        odd[m][i] = V::load_floats(state[m] + 16 + V::kLanes * (part + i));
      }
    }
    int64_t c = begin;
    for (; c + 1 < end; c += 2) {
      for (int i = 0; i < kCount; ++i) {
        const Pair w = columns_at(p, c, part + i);
        for (int m = 0; m < M; ++m) {
          even[m][i] = V::fma(w.even, V::set(in.x[m][c]), even[m][i]);
          odd[m][i] = V::fma(w.odd, V::set(in.x[m][c + 1]), odd[m][i]);
        }
      }
    }
    for (int m = 0; m < M; ++m) {
      for (int i = 0; i < kCount; ++i) {
        if (c < end) even[m][i] = V::fma(column_at(p, c, part + i), V::set(in.x[m][c]), even[m][i]);
        V::store_floats(state[m] + V::kLanes * (part + i), even[m][i]);
        V::store_floats(state[m] + 16 + V::kLanes * (part + i), odd[m][i]);
      }
    }
  }
  template <int M>
  static void finish(const uint8_t*, const PieceOffsets&, int64_t, const Rows<M>&,
                     float (*)[kSums]) {}
};

}  // namespace shoal::kernels
