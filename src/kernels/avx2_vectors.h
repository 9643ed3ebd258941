// The vectors of AVX2, FMA and F16C as interleaved_codes.h wants them. Only for files compiled for
// these.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace shoal::kernels {
namespace {

struct Avx2 {
  using I = __m256i;
  using F = __m256;
  static constexpr int kLanes = 8, kParts = 2;
  static constexpr int kPairRows = 4, kFloatRows = 4;    // of input at once, packed
  static constexpr int kPanelUnits = 1, kPanelRows = 4;  // 8 int32 sums in registers
  static constexpr int64_t kManyRows = 12;  // under so many, unpacking costs more than it saves

  static I load(const void* p) { return _mm256_loadu_si256(static_cast<const I*>(p)); }
  static void store(void* p, I x) { _mm256_store_si256(static_cast<I*>(p), x); }
  static F load_floats(const float* p) { return _mm256_load_ps(p); }
  static void store_floats(float* p, F x) { _mm256_store_ps(p, x); }
  static __m128i sixteen(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  static __m128i eight(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
  static F halves(const uint8_t* p) { return _mm256_cvtph_ps(sixteen(p)); }
  static I signed_bytes(const uint8_t* p) { return _mm256_cvtepi8_epi32(eight(p)); }
  static I bytes(const uint8_t* p) { return _mm256_cvtepu8_epi32(eight(p)); }
  static I table16(const void* p) { return _mm256_broadcastsi128_si256(sixteen(p)); }
  static I look_up(I table, I index) { return _mm256_shuffle_epi8(table, index); }

  static I set8(int x) { return _mm256_set1_epi8(static_cast<char>(x)); }
  static I set16(int x) { return _mm256_set1_epi16(static_cast<int16_t>(x)); }
  static I set32(int x) { return _mm256_set1_epi32(x); }
  static F set(float x) { return _mm256_set1_ps(x); }
  static I broadcast(const void* p) {  // as a float: g++ 12 takes integers through a register
    return _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(p)));
  }
  static I bits_xor(I a, I b) { return _mm256_xor_si256(a, b); }
  static I bits_and(I a, I b) { return _mm256_and_si256(a, b); }
  static I or_masked(I a, I b, I mask) { return _mm256_or_si256(a, _mm256_and_si256(b, mask)); }
  template <int kBits>
  static I left16(I x) {
    return _mm256_slli_epi16(x, kBits);
  }
  template <int kBits>
  static I right16(I x) {
    return _mm256_srli_epi16(x, kBits);
  }
  template <int kBits>
  static I signed_right16(I x) {
    return _mm256_srai_epi16(x, kBits);
  }
  template <int kBits>
  static I left32(I x) {
    return _mm256_slli_epi32(x, kBits);
  }
  template <int kBits>
  static I right32(I x) {
    return _mm256_srli_epi32(x, kBits);
  }
  static I add32(I a, I b) { return _mm256_add_epi32(a, b); }
  static I mul32(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static I sub16(I a, I b) { return _mm256_sub_epi16(a, b); }
  static I mul16(I a, I b) { return _mm256_mullo_epi16(a, b); }
  static I dot(I sum, I a, I b) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    asm("" : "+x"(sum));  // g++ 12 would put off all additions, in more registers than there are
    return sum;
  }

  static F to_floats(I x) { return _mm256_cvtepi32_ps(x); }
  static F as_floats(I x) { return _mm256_castsi256_ps(x); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
  static F exponents(const uint8_t* p) {  // exponent_to_float of small_floats.h
    const I e = bytes(p);
    const I usual = left32<23>(_mm256_sub_epi32(e, set32(1)));
    const I small = _mm256_sllv_epi32(set32(0x00200000), e);
    return as_floats(_mm256_blendv_epi8(usual, small, _mm256_cmpgt_epi32(set32(2), e)));
  }
};

}  // namespace
}  // namespace shoal::kernels
