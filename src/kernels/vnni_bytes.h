// Vectors V of x86 with VNNI that also multiply bytes, as packed_products.h wants it. Their
// vpdpbusd, V::dot_bytes, adds four products of an unsigned and a signed byte to each lane.
// Pure; any thread.
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

template <class V>
struct VnniBytes : V {
  using I = typename V::I;
  static constexpr int kByteRows = 2;  // of input at once; no table wants more (kApartRows)
  static constexpr bool kUnsignedBytes = true;  // of weights

  struct Weights {
    I first, last;  // four columns of a row in each lane
  };
  static Weights weights(I first, I last) { return {first, last}; }
  struct ByteSums {
    I coarse = {}, fine = {};
  };
  static void add_products(ByteSums& sums, const Weights& w, const int8_t* codes) {
    const int8_t* fine = codes + kApartBytes / 2;
    sums.coarse = V::dot_bytes(sums.coarse, w.first, V::broadcast(codes));
    sums.coarse = V::dot_bytes(sums.coarse, w.last, V::broadcast(codes + 4));
    sums.fine = V::dot_bytes(sums.fine, w.first, V::broadcast(fine));
    sums.fine = V::dot_bytes(sums.fine, w.last, V::broadcast(fine + 4));
  }
  // Of fine steps, and `first`.
  static I sum_of(const ByteSums& sums, int32_t first) {
    const I coarse = V::mul32(sums.coarse, V::set32(kFineSteps));
    return V::add32(coarse, V::add32(sums.fine, V::set32(first)));
  }
};

}  // namespace shoal::kernels
