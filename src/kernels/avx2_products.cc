// Products by AVX2, FMA and F16C: vector_products.h. And the quantisation of activations, for all
// that multiply so.
#include "kernels/avx2_products.h"

#include <immintrin.h>

#include "kernels/avx2_vectors.h"
#include "kernels/vector_products.h"

namespace shoal::kernels {
namespace {

// What is left of x once `scale` times the codes that are returned is taken off.
__m256i take_level(__m256& x, float scale, float inverse) {
  const __m256i codes = _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(inverse)));
  x = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(codes), _mm256_set1_ps(scale), x);
  return codes;
}

int32_t sum_of(__m256i eight) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

// 16 columns of steps as int16, in the order of Codes::pairs.
__m256i ordered_pairs(__m256i first, __m256i last) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, last), 0xd8);
  return _mm256_shuffle_epi8(
      words, _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,  //
                              0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
}

void put_pairs(const __m256i (&coarse)[4], const __m256i (&fine)[4], int8_t* out) {
  __m256i steps[4];
  for (int i = 0; i < 4; ++i) {
    const __m256i high = _mm256_mullo_epi32(coarse[i], _mm256_set1_epi32(kFineSteps));
    steps[i] = _mm256_add_epi32(high, fine[i]);
  }
  auto* words = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(words, ordered_pairs(steps[0], steps[1]));
  _mm256_storeu_si256(words + 1, ordered_pairs(steps[2], steps[3]));
}

void put_apart(const __m256i (&coarse)[4], const __m256i (&fine)[4], int8_t* out) {
  for (int i = 0; i < 4; ++i) {
    const __m256i words = _mm256_packs_epi32(coarse[i], fine[i]);  // of four columns, four more
    const __m256i bytes = _mm256_packs_epi16(words, words);
    const __m128i ordered =
        _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + kApartBytes * i), ordered);
  }
}

template <auto kPut>
void quantise(const float* in, int64_t count, int8_t* codes, BlockSums* blocks) {
  const __m256i magnitude_bits = _mm256_set1_epi32(0x7fffffff);
  for (int64_t b = 0; b < count / kSubBlock; ++b) {
    __m256 x[4];
    for (int i = 0; i < 4; ++i) x[i] = _mm256_loadu_ps(in + b * kSubBlock + 8 * i);
    // The largest magnitude by its bits, which orders NaN above all: it reaches the scale and so
    // the result, instead of vanishing.
    __m256i top = _mm256_and_si256(_mm256_castps_si256(x[0]), magnitude_bits);
    for (int i = 1; i < 4; ++i) {
      top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude_bits));
    }
    __m128i top4 = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    top4 = _mm_max_epi32(top4, _mm_shuffle_epi32(top4, 0x4e));
    top4 = _mm_max_epi32(top4, _mm_shuffle_epi32(top4, 0xb1));
    const float largest = _mm_cvtss_f32(_mm_castsi128_ps(top4));
    const bool tiny = largest < 1e-33f;  // neither inverse may overflow
    const float coarse = tiny ? 0 : largest / 127;
    const float fine = coarse / kFineSteps;
    __m256i high[4], low[4], sums[2];
    for (int i = 0; i < 4; ++i) {
      high[i] = take_level(x[i], coarse, tiny ? 0 : 127 / largest);
      low[i] = take_level(x[i], fine, tiny ? 0 : kFineSteps / coarse);
    }
    kPut(high, low, codes + b * kCodeBytes);
    for (int half = 0; half < 2; ++half) {
      const __m256i both = _mm256_add_epi32(high[2 * half], high[2 * half + 1]);
      sums[half] = _mm256_add_epi32(_mm256_mullo_epi32(both, _mm256_set1_epi32(kFineSteps)),
                                    _mm256_add_epi32(low[2 * half], low[2 * half + 1]));
    }
    BlockSums& block = blocks[b];
    block.half_steps[0] = sum_of(sums[0]);
    block.half_steps[1] = sum_of(sums[1]);
    block.scale = fine;
    block.weighted_sum = fine * static_cast<float>(block.half_steps[0] + block.half_steps[1]);
  }
}

}  // namespace

Product avx2_product(ElementType type) {
  return vector_product<Avx2>(type);
}

void avx2_quantise(const float* in, int64_t count, int8_t* codes, BlockSums* blocks) {
  quantise<put_pairs>(in, count, codes, blocks);
}
void avx2_quantise_apart(const float* in, int64_t count, int8_t* codes, BlockSums* blocks) {
  quantise<put_apart>(in, count, codes, blocks);
}

uint64_t avx2_read_streams(const uint8_t* bytes, int64_t quarter_bytes) {
  constexpr int kStreams = 4;
  __m256i sum[kStreams];
  for (__m256i& lanes : sum) lanes = _mm256_setzero_si256();
  for (int64_t offset = 0; offset < quarter_bytes; offset += 256) {
    for (int s = 0; s < kStreams; ++s) {
      const uint8_t* block = bytes + s * quarter_bytes + offset;
      for (int line = 0; line < 4; ++line) {
        const uint8_t* at = block + 64 * line;
        _mm_prefetch(reinterpret_cast<const char*>(at + 1024), _MM_HINT_T0);
        sum[s] = _mm256_add_epi64(sum[s], _mm256_add_epi64(Avx2::load(at), Avx2::load(at + 32)));
      }
    }
  }
  const __m256i all =
      _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), all);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

}  // namespace shoal::kernels
