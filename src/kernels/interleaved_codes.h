// How vector instructions read the interleaved types: codes as pairs of int16, scales and minima as
// int32 or floats, a lane for each row of the matrix. Pure; any thread.
//
// V stands for a set of vector instructions (avx2_vectors.h, avx512_vectors.h): its vectors
// I of integers and F of floats have kLanes lanes of 32 bits, and a group of 16 rows has kParts of
// them. Everything is exact integers and floats met in one order, so that what is computed does not
// depend on V. Templates over V are instantiated only in the file that defines V.
#pragma once

#include "kernels/interleaved.h"
#include "kernels/kernel_table.h"

namespace shoal::kernels {

inline constexpr int kPairs = kSubBlock / 2;  // of columns, in a sub-block

// What vectors multiply: bytes, with the levels of activations apart, or pairs of int16; or both.
template <class V>
concept MultipliesBytes = requires { typename V::ByteSums; };
template <class V>
concept MultipliesPairs = requires(typename V::I x) { V::dot(x, x, x); };

// Two activations, in the order of Codes::pairs, in every lane.
template <class V>
static inline typename V::I pair_of(const int8_t* codes, int pair) {
  return V::broadcast(codes + 4 * pair);
}

// Whether scales are floats for each 32 columns; otherwise they are integers.
template <ElementType kType>
constexpr bool kFloatScaled =
    type_form(kType).sub_scales == SubScales::kNone || kType == ElementType::kIQ4_XS;
// Whether the two halves of a sub-block have integer scales of their own.
template <ElementType kType>
constexpr bool kTwoScales =
    !kFloatScaled<kType> && type_form(kType).sub_scales != SubScales::kPer32;
// Whether integer scales leave only each half's sum room in int32, not a sub-block's.
template <ElementType kType>
constexpr bool kSumsPerHalf = type_form(kType).sub_scales == SubScales::kPer16;

// The largest sums have room. What codes and centers add up to may pass the ends of int32 on its
// way and comes back.
template <ElementType kType>
constexpr bool sums_fit() {
  constexpr const TypeForm& form = type_form(kType);
  constexpr int64_t kCodes = int64_t{1} << (form.low_bits + form.high_bits);
  constexpr int64_t kValue = form.table != Table::kNone || form.low_bits == 8 ? 128
                             : kCodes - 1 - form.center > form.center ? kCodes - 1 - form.center
                                                                      : form.center;
  constexpr int64_t kScale = kFloatScaled<kType>                           ? 1
                             : form.sub_scales == SubScales::kNibblesPer16 ? 15
                             : form.sub_scales == SubScales::kSixBitsPer16 ? 32
                             : form.sub_scales == SubScales::kPer16        ? 128
                                                                           : 63;
  constexpr int64_t kColumns = kSumsPerHalf<kType> ? 16 : 32;
  return kColumns * kValue * kScale * kLargestStep < int64_t{1} << 31 && kValue * kScale <= 32767;
}

// The codes of a sub-block as int16, two columns to a lane. Pair 2 g is columns 4 g and 4 g + 2,
// pair 2 g + 1 those after them: what masks and shifts leave of a vector of bytes. `part` counts
// vectors of a group's rows.
template <class V, ElementType kType>
struct Codes {
  using I = typename V::I;
  static constexpr const TypeForm& kForm = type_form(kType);
  static constexpr bool kLookedUp = kForm.table != Table::kNone;
  static constexpr int kCenter = kForm.center;  // to be subtracted from what pairs() gives
  static constexpr int kRaised =
      kLookedUp || kForm.low_bits == 8 ? 128 : kForm.center;  // from unsigned_bytes()
  static_assert(sums_fit<kType>());

  const uint8_t *low, *high;
  I table;
  Codes(const uint8_t* p, const PieceOffsets& at, int64_t b, int part)
      : low(p + at.codes + 64 * kForm.low_bits * b + 4 * V::kLanes * part),
        high(p + at.high_bits + 64 * kForm.high_bits * b + 4 * V::kLanes * part) {
    if constexpr (kLookedUp) table = V::table16(values_of(kForm.table));
  }

  // Pairs 2 kGroup and 2 kGroup + 1.
  template <int kGroup>
  void pairs(I& even, I& odd) const {
    if constexpr (kForm.low_bits == 4 && kForm.high_bits == 0 && !kLookedUp) {
      const I both = V::load(low + 64 * (kGroup % 4)), mask = V::set16(15);
      if constexpr (kGroup < 4) {
        even = V::bits_and(both, mask);
        odd = V::bits_and(V::template right16<8>(both), mask);
      } else {
        even = V::bits_and(V::template right16<4>(both), mask);
        odd = V::template right16<12>(both);
      }
    } else {
      const I four = bytes<kGroup>();
      if constexpr (kForm.low_bits == 8 || kLookedUp) {  // signed
        even = V::template signed_right16<8>(V::template left16<8>(four));
        odd = V::template signed_right16<8>(four);
      } else {
        even = V::bits_and(four, V::set16(255));
        odd = V::template right16<8>(four);
      }
    }
  }

  // Columns 4 kGroup to 4 kGroup + 3: signed where pairs() gives signed numbers.
  template <int kGroup>
  I bytes() const {
    if constexpr (kForm.low_bits == 8) {
      return V::load(low + 64 * kGroup);
    } else if constexpr (kLookedUp) {
      return V::look_up(table, packed_bytes<kGroup>());
    } else {
      return with_high_bits<kGroup>(packed_bytes<kGroup>());
    }
  }
  template <int kGroup>
  I unsigned_bytes() const {
    if constexpr (kForm.low_bits == 8) {
      return V::bits_xor(bytes<kGroup>(), V::set8(-128));
    } else if constexpr (kLookedUp) {
      return V::look_up(V::bits_xor(table, V::set8(-128)), packed_bytes<kGroup>());
    } else {
      return bytes<kGroup>();
    }
  }

 private:
  // The low bits of bytes().
  template <int kGroup>
  I packed_bytes() const {
    static_assert(kForm.low_bits < 8);
    constexpr int kPer = 8 / kForm.low_bits;  // columns to a byte; nibbles lie as in the file
    constexpr int kVector = kPer == 2 ? kGroup % 4 : kGroup / kPer;
    constexpr int kShift = kPer == 2 ? kGroup / 4 * 4 : kGroup % kPer * 2;
    const I packed = V::load(low + 64 * kVector);
    return V::bits_and(V::template right16<kShift>(packed), V::set8((1 << kForm.low_bits) - 1));
  }
  template <int kGroup>
  I with_high_bits(I code) const {
    if constexpr (kForm.high_bits == 0) {
      return code;
    } else {
      constexpr int kBits = kForm.high_bits, kPer = 8 / kBits;
      constexpr int kUp = kForm.low_bits - kGroup % kPer * kBits;
      const I bits = V::load(high + 64 * (kGroup / kPer));
      I moved;
      if constexpr (kUp > 0) {
        moved = V::template left16<kUp>(bits);
      } else {
        moved = V::template right16<-kUp>(bits);
      }
      return V::or_masked(code, moved, V::set8(((1 << kBits) - 1) << kForm.low_bits));
    }
  }
};

// Floats for each 32 columns: stored so or, of IQ4_XS, made of two.
template <class V, ElementType kType>
static inline typename V::F float_scales(const uint8_t* p, const PieceOffsets& at, int64_t b,
                                         int part) {
  constexpr const TypeForm& kForm = type_form(kType);
  const int first = V::kLanes * part;
  if constexpr (kForm.exponent) {
    return V::exponents(p + at.d + 16 * b + first);
  } else if constexpr (kForm.sub_scales == SubScales::kPer32) {
    const auto integers = V::signed_bytes(p + at.scales + 16 * b + first);
    return V::mul(V::halves(p + at.d + 2 * first), V::to_floats(integers));
  } else {
    return V::halves(p + at.d + 32 * b + 2 * first);
  }
}

// Integers for the first and the last 16 of sub-block b's columns.
template <class V, ElementType kType>
static inline void integer_scales(const uint8_t* p, const PieceOffsets& at, int64_t columns,
                                  int64_t b, int part, typename V::I (&out)[2]) {
  constexpr SubScales kScales = type_form(kType).sub_scales;
  const uint8_t* scales = p + at.scales + V::kLanes * part;
  if constexpr (kScales == SubScales::kPer32) {
    out[0] = out[1] = V::signed_bytes(scales + 16 * b);
  } else if constexpr (kScales == SubScales::kPer16) {
    out[0] = V::signed_bytes(scales + 32 * b);
    out[1] = V::signed_bytes(scales + 32 * b + 16);
  } else if constexpr (kScales == SubScales::kNibblesPer16) {
    for (int half = 0; half < 2; ++half)
      out[half] = V::bits_and(V::bytes(scales + 32 * b + 16 * half), V::set32(15));
  } else {
    const int64_t n = columns / kSubBlock;
    const auto low = V::bytes(scales + 16 * b);
    const auto both = V::bytes(scales + 16 * (n + b / 2));
    const auto high = b % 2 == 0 ? both : V::template right32<4>(both);
    const auto join = [](typename V::I four, typename V::I two) {
      const auto bits = V::or_masked(V::bits_and(four, V::set32(15)), two, V::set32(0x30));
      return V::add32(bits, V::set32(-32));
    };
    out[0] = join(low, V::template left32<4>(high));
    out[1] = join(V::template right32<4>(low), V::template left32<2>(high));
  }
}

// Of types with integer scales: for the first and the last 16 columns, equal where they share one.
template <class V, ElementType kType>
static inline void integer_minima(const uint8_t* p, const PieceOffsets& at, int64_t b, int part,
                                  typename V::I (&out)[2]) {
  const int first = V::kLanes * part;
  if constexpr (kTwoScales<kType>) {
    for (int half = 0; half < 2; ++half) {
      const auto both = V::bytes(p + at.scales + 32 * b + 16 * half + first);
      out[half] = V::template right32<4>(both);
    }
  } else {
    out[0] = out[1] = V::bytes(p + at.minima + 16 * b + first);
  }
}

// What the minima of a sub-block take off, before dmin: where each half has its own, as integers.
template <class V, bool kPerHalf>
static inline typename V::F add_minima(const typename V::I (&minima)[2], const BlockSums& block,
                                       typename V::F offset) {
  if constexpr (kPerHalf) {
    const auto steps = V::add32(V::mul32(minima[0], V::set32(block.half_steps[0])),
                                V::mul32(minima[1], V::set32(block.half_steps[1])));
    return V::fma(V::to_floats(steps), V::set(block.scale), offset);
  } else {
    return V::fma(V::to_floats(minima[0]), V::set(block.weighted_sum), offset);
  }
}

// Calls step.template operator()<0>() to <kCount - 1>().
template <int kCount, class Step, int kFirst = 0>
static inline __attribute__((always_inline)) void unrolled(const Step& step) {
  if constexpr (kFirst < kCount) {
    step.template operator()<kFirst>();
    unrolled<kCount, Step, kFirst + 1>(step);
  }
}

}  // namespace shoal::kernels
