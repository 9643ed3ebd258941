// Attention over KV pages by AVX2, FMA and F16C.
//
// Page by page with a running maximum (Milakov & Gimelshein, "Online normalizer calculation for
// softmax", 2018). What a page contributes depends on which of its positions are attended to, that
// is on the row's position and window alone.
#include <immintrin.h>

#include <cstring>

#include "kernels/avx2_math.h"
#include "kernels/avx2_products.h"

namespace shoal::kernels {
namespace {

// Elements i to i + 7 of a position of a page (zero beyond the dimension), of q8_0 to be scaled.
template <KvType kType>
inline __m256 elements(const uint8_t* page, int dimension, int position, int i) {
  const int64_t index = static_cast<int64_t>(position) * dimension + i;
  const int count = dimension - i;
  if constexpr (kType == KvType::kF32) {
    return load_first(reinterpret_cast<const float*>(page + 4 * index), count);
  } else {
    constexpr int64_t kBytes = kType == KvType::kF16 ? 2 : 1;
    const uint8_t* at = page + kBytes * index;
    alignas(16) uint8_t some[16];
    if (count < 8) {
      std::memset(some, 0, sizeof some);
      std::memcpy(some, at, static_cast<size_t>(count * kBytes));
      at = some;
    }
    if constexpr (kType == KvType::kF16) {
      return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    } else {
      const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
      return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
    }
  }
}

// The scale of element i of a position of a page of q8_0, in every lane.
inline __m256 element_scale(const uint8_t* page, int dimension, int position, int i) {
  int16_t bits;
  const int64_t index = position * kv_scales_count(dimension) + i / kKvBlock;
  std::memcpy(&bits, page + kv_scales_offset(dimension) + 2 * index, sizeof bits);
  return _mm256_cvtph_ps(_mm_set1_epi16(bits));
}

// Lane i: the sum of the lanes of sums[i].
inline __m256 add_across(const __m256* sums) {
  const __m256 a =
      _mm256_hadd_ps(_mm256_hadd_ps(sums[0], sums[1]), _mm256_hadd_ps(sums[2], sums[3]));
  const __m256 b =
      _mm256_hadd_ps(_mm256_hadd_ps(sums[4], sums[5]), _mm256_hadd_ps(sums[6], sums[7]));
  return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

// q . k for the eight positions from `offset` of a page. All eight are read: a page is whole.
template <KvType kType>
inline __m256 eight_scores(const float* q, const uint8_t* page, int offset, int dimension) {
  constexpr bool kScaled = kType == KvType::kQ8_0;
  __m256 sums[8];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int first = 0; first < dimension; first += kKvBlock) {
    const int end = dimension < first + kKvBlock ? dimension : first + kKvBlock;
    __m256 block[8];
    for (int t = 0; t < 8; ++t) block[t] = kScaled ? _mm256_setzero_ps() : sums[t];
    for (int i = first; i < end; i += 8) {
      const __m256 query = load_first(q + i, dimension - i);
      for (int t = 0; t < 8; ++t) {
        block[t] =
            _mm256_fmadd_ps(query, elements<kType>(page, dimension, offset + t, i), block[t]);
      }
    }
    for (int t = 0; t < 8; ++t) {
      if constexpr (kScaled) {
        const __m256 scale = element_scale(page, dimension, offset + t, first);
        sums[t] = _mm256_fmadd_ps(block[t], scale, sums[t]);
      } else {
        sums[t] = block[t];
      }
    }
  }
  return add_across(sums);
}

// What one head has gathered so far.
struct Running {
  float largest;
  float total;
};

inline float largest_lane(__m256 x) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

// cap * tanh(x / cap), by tanh y = 1 - 2 / (1 + e^2y).
inline __m256 capped(__m256 x, float cap) {
  const __m256 power = exp8(_mm256_mul_ps(x, _mm256_set1_ps(2 / cap)));
  const __m256 one = _mm256_set1_ps(1);
  const __m256 rest = _mm256_div_ps(_mm256_set1_ps(2), _mm256_add_ps(one, power));
  return _mm256_mul_ps(_mm256_set1_ps(cap), _mm256_sub_ps(one, rest));
}

// Scores of positions [begin, end) of a page, -infinity elsewhere; returns the largest.
template <KvType kType>
inline float page_scores(const AttendTask& task, const float* q, const uint8_t* page, int begin,
                         int end, float* scores) {
  const __m256 nothing = _mm256_set1_ps(-__builtin_inff());
  __m256 top = nothing;
  for (int offset = 0; offset < kPageTokens; offset += 8) {
    __m256 eight = nothing;
    if (offset < end && offset + 8 > begin) {
      eight = _mm256_mul_ps(eight_scores<kType>(q, page, offset, task.head_dimension),
                            _mm256_set1_ps(task.scale));
      if (task.soft_cap > 0) eight = capped(eight, task.soft_cap);
      const __m256i wanted =
          _mm256_andnot_si256(first_lanes(begin - offset), first_lanes(end - offset));
      eight = _mm256_blendv_ps(nothing, eight, _mm256_castsi256_ps(wanted));
    }
    _mm256_store_ps(scores + offset, eight);
    top = _mm256_max_ps(top, eight);
  }
  return largest_lane(top);
}

// sums = sums * decay + weights[begin..end) of the page's values, kVectors * 8 elements from `i`.
template <KvType kType, int kVectors>
inline void add_values(const AttendTask& task, const uint8_t* page, const float* weights, int begin,
                       int end, float decay, int i, float* sums) {
  __m256 acc[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    acc[v] = _mm256_mul_ps(_mm256_loadu_ps(sums + i + 8 * v), _mm256_set1_ps(decay));
  }
  for (int t = begin; t < end; ++t) {
    __m256 weight = _mm256_set1_ps(weights[t]);
    for (int v = 0; v < kVectors; ++v) {
      const int at = i + 8 * v;
      if constexpr (kType == KvType::kQ8_0) {
        if (8 * v % kKvBlock == 0) {
          weight = _mm256_mul_ps(_mm256_set1_ps(weights[t]),
                                 element_scale(page, task.head_dimension, t, at));
        }
      }
      acc[v] = _mm256_fmadd_ps(weight, elements<kType>(page, task.head_dimension, t, at), acc[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(sums + i + 8 * v, acc[v]);
}

template <KvType kType>
void one_page(const AttendTask& task, const float* q, const uint8_t* k, const uint8_t* v, int begin,
              int end, Running& running, float* sums) {
  alignas(32) float weights[kPageTokens];
  const float page_top = page_scores<kType>(task, q, k, begin, end, weights);
  const float top = page_top > running.largest ? page_top : running.largest;
  const __m256 shift = _mm256_set1_ps(top);
  __m256 total = _mm256_setzero_ps();
  for (int offset = 0; offset < kPageTokens; offset += 8) {
    const __m256 eight = exp8(_mm256_sub_ps(_mm256_load_ps(weights + offset), shift));
    _mm256_store_ps(weights + offset, eight);
    total = _mm256_add_ps(total, eight);
  }
  // The first page decays nothing: -infinity - top gives 0.
  const float decay = _mm256_cvtss_f32(exp8(_mm256_set1_ps(running.largest - top)));
  running = {top, running.total * decay + add_lanes(total)};
  int i = 0;
  for (; i + 64 <= task.value_dimension; i += 64) {
    add_values<kType, 8>(task, v, weights, begin, end, decay, i, sums);
  }
  for (; i < task.value_dimension; i += 8) {
    add_values<kType, 1>(task, v, weights, begin, end, decay, i, sums);
  }
}

template <KvType kType>
void attend(const AttendTask& task) {
  const int padded = (task.value_dimension + 7) / 8 * 8;
  // Per head: sums, then what is running. The scratch has room for as many doubles.
  auto* sums = static_cast<float*>(task.scratch);
  auto* running = reinterpret_cast<Running*>(sums + static_cast<int64_t>(task.heads) * padded);
  std::memset(sums, 0, static_cast<size_t>(task.heads) * static_cast<size_t>(padded) * 4);
  for (int h = 0; h < task.heads; ++h) {
    running[h] = {-__builtin_inff(), 0};
    if (task.sinks != nullptr) running[h] = {task.sinks[h], 1};
  }
  const int64_t last_page = task.last_position / kPageTokens;
  for (int64_t page = task.first_position / kPageTokens; page <= last_page; ++page) {
    const int64_t start = page * kPageTokens;
    const int begin =
        task.first_position > start ? static_cast<int>(task.first_position - start) : 0;
    const int64_t left = task.last_position + 1 - start;
    const int end = left < kPageTokens ? static_cast<int>(left) : kPageTokens;
    const int64_t offset = task.pages[page] * task.page_stride_bytes;
    for (int h = 0; h < task.heads; ++h) {
      one_page<kType>(task, task.q + h * task.head_dimension, task.k + offset, task.v + offset,
                      begin, end, running[h], sums + h * padded);
    }
  }
  for (int h = 0; h < task.heads; ++h) {
    const __m256 total = _mm256_set1_ps(running[h].total);
    float* out = task.out + h * task.value_dimension;
    for (int i = 0; i < task.value_dimension; i += 8) {
      const __m256 value = _mm256_div_ps(_mm256_loadu_ps(sums + h * padded + i), total);
      store_first(out + i, task.value_dimension - i, value);
    }
  }
}

}  // namespace

void avx2_attend(const AttendTask& task) {
  switch (task.type) {
    case KvType::kF32:
      return attend<KvType::kF32>(task);
    case KvType::kF16:
      return attend<KvType::kF16>(task);
    case KvType::kQ8_0:
      return attend<KvType::kQ8_0>(task);
  }
}

}  // namespace shoal::kernels
