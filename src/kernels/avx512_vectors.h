// The vectors of AVX-512 with VNNI as interleaved_codes.h wants them. Only for files compiled for
// these.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace shoal::kernels {
namespace {

struct Avx512 {
  using I = __m512i;
  using F = __m512;
  static constexpr int kLanes = 16, kParts = 1;
  static constexpr int kPairRows = 8, kFloatRows = 8;    // of input at once, packed
  static constexpr int kPanelUnits = 2, kPanelRows = 6;  // 12 int32 and 12 float sums in registers
  static constexpr int64_t kManyRows = 12;  // under so many, unpacking costs more than it saves

  static I load(const void* p) { return _mm512_loadu_si512(p); }
  static void store(void* p, I x) { _mm512_store_si512(p, x); }
  static F load_floats(const float* p) { return _mm512_load_ps(p); }
  static void store_floats(float* p, F x) { _mm512_store_ps(p, x); }
  static F halves(const uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m128i sixteen(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  static I signed_bytes(const uint8_t* p) { return _mm512_cvtepi8_epi32(sixteen(p)); }
  static I bytes(const uint8_t* p) { return _mm512_cvtepu8_epi32(sixteen(p)); }
  static I table16(const void* p) { return _mm512_broadcast_i32x4(sixteen(p)); }
  static I look_up(I table, I index) { return _mm512_shuffle_epi8(table, index); }

  static I set8(int x) { return _mm512_set1_epi8(static_cast<char>(x)); }
  static I set16(int x) { return _mm512_set1_epi16(static_cast<int16_t>(x)); }
  static I set32(int x) { return _mm512_set1_epi32(x); }
  static F set(float x) { return _mm512_set1_ps(x); }
  static I broadcast(const void* p) {  // as a float: g++ 12 takes integers through a register
    return _mm512_castps_si512(_mm512_broadcastss_ps(_mm_load_ss(static_cast<const float*>(p))));
  }
  static I bits_xor(I a, I b) { return _mm512_xor_si512(a, b); }
  static I bits_and(I a, I b) { return _mm512_and_si512(a, b); }
  static I or_masked(I a, I b, I mask) { return _mm512_ternarylogic_epi32(a, b, mask, 0xf8); }
  template <int kBits>
  static I left16(I x) {
    return _mm512_slli_epi16(x, kBits);
  }
  template <int kBits>
  static I right16(I x) {
    return _mm512_srli_epi16(x, kBits);
  }
  template <int kBits>
  static I signed_right16(I x) {
    return _mm512_srai_epi16(x, kBits);
  }
  template <int kBits>
  static I left32(I x) {
    return _mm512_slli_epi32(x, kBits);
  }
  template <int kBits>
  static I right32(I x) {
    return _mm512_srli_epi32(x, kBits);
  }
  static I add32(I a, I b) { return _mm512_add_epi32(a, b); }
  static I mul32(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static I sub16(I a, I b) { return _mm512_sub_epi16(a, b); }
  static I mul16(I a, I b) { return _mm512_mullo_epi16(a, b); }
  static I dot(I sum, I a, I b) { return _mm512_dpwssd_epi32(sum, a, b); }
  static I dot_bytes(I sum, I w, I x) { return _mm512_dpbusd_epi32(sum, w, x); }

  static F to_floats(I x) { return _mm512_cvtepi32_ps(x); }
  static F as_floats(I x) { return _mm512_castsi512_ps(x); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
  static F exponents(const uint8_t* p) {  // exponent_to_float of small_floats.h
    const I e = bytes(p);
    const I usual = left32<23>(_mm512_sub_epi32(e, set32(1)));
    const I small = _mm512_sllv_epi32(set32(0x00200000), e);
    return as_floats(_mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(e, set32(2)), usual, small));
  }
};

}  // namespace
}  // namespace shoal::kernels
