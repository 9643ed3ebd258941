// Attention over KV pages, for the files that instantiate it with the vectors of their instruction
// set: V is sixteen floats, of a type in an unnamed namespace, so that every instantiation stays in
// its file. Functions are pure in their arguments.
//
// A score is one chain of products over the elements of a key, a sum of values one chain over the
// positions of a span, both in their order: lanes are positions there and elements here, never
// added across. So a query's bits are the same alone, in a tile or from a page that was turned into
// floats before; only which of these is faster differs. Spans are joined as in Milakov &
// Gimelshein, "Online normalizer calculation for softmax", 2018.
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

// A page of keys or of values as it is kept.
template <typename ElementType, bool kWithScales>
struct KeptPage {
  using Element = ElementType;
  static constexpr bool kScaled = kWithScales;
  static constexpr bool kFetch = true;  // another page meanwhile
  const Element* elements;
  const uint16_t* scales;  // of q8_0
  int64_t stride;          // elements from one position to the next; of values alone
};
// The same turned into floats.
template <bool kWithScales>
struct FloatPage {
  using Element = float;
  static constexpr bool kScaled = kWithScales;
  static constexpr bool kFetch = false;
  const float* elements;
  const float* scales;
  int64_t stride;
};

template <KvType kType>
struct PageTypes;
template <>
struct PageTypes<KvType::kF32> {
  using Kept = KeptPage<float, false>;
};
template <>
struct PageTypes<KvType::kF16> {
  using Kept = KeptPage<uint16_t, false>;
};
template <>
struct PageTypes<KvType::kQ8_0> {
  using Kept = KeptPage<int8_t, true>;
};

// Scores of 16 * V::kTileVectors positions of a page for kRows queries. `ahead` is what to fetch.
template <typename V, typename Page, int kRows>
inline void score_tile(const Page& page, int offset, const float* q, int64_t q_stride,
                       int dimension, const uint8_t*& ahead, float* scores, int64_t score_stride) {
  constexpr int kVectors = V::kTileVectors;
  using Element = typename Page::Element;
  const int step = Page::kScaled ? kKvBlock : dimension;
  for (int first = 0; first < dimension; first += step) {
    const int end = first + step < dimension ? first + step : dimension;
    V sums[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
      for (int j = 0; j < kVectors; ++j) sums[r][j] = V::broadcast(0);
    const Element* at = page.elements + static_cast<int64_t>(first) * kPageTokens + offset;
    for (int d = first; d < end; ++d, at += kPageTokens) {
      V keys[kVectors];
      for (int j = 0; j < kVectors; ++j) keys[j] = V::load(at + 16 * j);
      if constexpr (Page::kFetch) {
        __builtin_prefetch(ahead);
        ahead += sizeof(Element) * 16 * kVectors;
      }
      for (int r = 0; r < kRows; ++r) {
        const V query = V::broadcast(q[r * q_stride + d]);
        for (int j = 0; j < kVectors; ++j) sums[r][j] = V::fma(query, keys[j], sums[r][j]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < kVectors; ++j) {
        float* out = scores + r * score_stride + 16 * j;
        V sum = sums[r][j];
        if constexpr (Page::kScaled) {
          const V scale = V::load(page.scales + first / kKvBlock * kPageTokens + offset + 16 * j);
          sum = first == 0 ? V::mul(sum, scale) : V::fma(sum, scale, V::load(out));
        }
        V::store(out, sum);
      }
    }
  }
}

// sums += weights of positions [begin, end) times their values, kVectors * 16 elements of them.
template <typename V, typename Page, int kRows, int kVectors>
inline void value_tile(const Page& page, int element, const float* weights, int64_t weight_stride,
                       int begin, int end, const uint8_t*& ahead, float* sums, int64_t sum_stride) {
  using Element = typename Page::Element;
  V acc[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kVectors; ++j) acc[r][j] = V::load(sums + r * sum_stride + 16 * j);
  const Element* at = page.elements + element + begin * page.stride;
  for (int t = begin; t < end; ++t, at += page.stride) {
    V row[kVectors];
    for (int j = 0; j < kVectors; ++j) row[j] = V::load(at + 16 * j);
    if constexpr (Page::kFetch) {
      __builtin_prefetch(ahead);
      ahead += sizeof(Element) * 16 * kVectors;
    }
    for (int r = 0; r < kRows; ++r) {
      const V weight = V::broadcast(weights[r * weight_stride + t]);
      for (int j = 0; j < kVectors; ++j) acc[r][j] = V::fma(weight, row[j], acc[r][j]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kVectors; ++j) V::store(sums + r * sum_stride + 16 * j, acc[r][j]);
}

// What is known of a span of a task, and where things lie in its scratch.
template <typename V>
struct SpanWork {
  const AttendTask& task;
  int64_t start;  // position
  int queries;
  int tile_rows;  // the last tile may have fewer, but few: 4 and 4 rather than 6 and 2
  int64_t q_stride, score_stride, part_stride;
  float *q, *scores, *floats, *turned, *scales;

  SpanWork(const AttendTask& t, int64_t span) : task(t), start(span * kSpanTokens) {
    queries = t.rows * t.heads;
    const int tiles = (queries + V::kTileRows - 1) / V::kTileRows;
    tile_rows = (queries + tiles - 1) / tiles;
    q_stride = (t.head_dimension + 15) / 16 * 16;
    // Not a power of two: rows of a tile would share the cache's sets.
    score_stride = kSpanTokens + 16;
    part_stride = part_floats(t.value_dimension);
    const int64_t padded = (t.head_dimension + 31) / 32 * 32;
    q = t.scratch;
    scores = q + queries * q_stride;
    scales = scores + queries * score_stride;
    floats = scales + kPageTokens * padded / kKvBlock;
    turned = floats + kPageTokens * padded + 16;
  }
  SpanRange range(int query) const { return span_range(task, query / task.heads, start); }
};

template <int kCount>
struct Count {
  static constexpr int value = kCount;
};
// job(Count<rows>), 1 <= rows <= kMost.
template <int kMost, typename Job>
inline void with_rows(int rows, const Job& job) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return with_rows<kMost - 1>(rows, job);
  }
  job(Count<kMost>{});
}

// Scores of the positions of a page, which begins at `offset` of the span, of every query that
// attends to some of them.
template <typename V, typename Page>
inline void page_scores(const SpanWork<V>& work, const Page& page, int offset,
                        const uint8_t* ahead) {
  for (int first = 0; first < work.queries; first += work.tile_rows) {
    const int count = work.queries - first < work.tile_rows ? work.queries - first : work.tile_rows;
    const int begin = work.range(first).begin, end = work.range(first + count - 1).end;
    if (end <= offset || begin >= offset + kPageTokens) continue;
    with_rows<V::kTileRows>(count, [&](auto rows) {
      for (int t = 0; t < kPageTokens; t += 16 * V::kTileVectors) {
        score_tile<V, Page, decltype(rows)::value>(
            page, t, work.q + first * work.q_stride, work.q_stride, work.task.head_dimension, ahead,
            work.scores + first * work.score_stride + offset + t, work.score_stride);
      }
    });
  }
}

// Adds the values of positions [begin, end) of a page, for `count` queries from `first` on that
// all attend to them.
template <typename V, typename Page>
inline void add_values(const SpanWork<V>& work, const Page& page, int offset, int first, int count,
                       int begin, int end, const uint8_t*& ahead, float* parts) {
  with_rows<V::kTileRows>(count, [&](auto rows) {
    constexpr int kRows = decltype(rows)::value;
    const float* weights = work.scores + first * work.score_stride + offset;
    int64_t weight_stride = work.score_stride;
    alignas(64) float scaled[Page::kScaled ? kRows * kPageTokens : 1];
    const int dimension = work.task.value_dimension;
    for (int d = 0; d < dimension; d += kKvBlock) {
      if constexpr (Page::kScaled) {
        const float* plain = work.scores + first * work.score_stride + offset;
        for (int t = begin & ~15; t < end; t += 16) {
          const V scale = V::load(page.scales + d / kKvBlock * kPageTokens + t);
          for (int r = 0; r < kRows; ++r) {
            V::store(scaled + r * kPageTokens + t,
                     V::mul(scale, V::load(plain + r * work.score_stride + t)));
          }
        }
        weights = scaled;
        weight_stride = kPageTokens;
      }
      float* sums = parts + first * work.part_stride + kPartHead + d;
      if (V::kTileVectors == 2 && d + 16 < dimension) {
        value_tile<V, Page, kRows, 2>(page, d, weights, weight_stride, begin, end, ahead, sums,
                                      work.part_stride);
        continue;
      }
      for (int i = 0; i < kKvBlock && d + i < dimension; i += 16) {
        value_tile<V, Page, kRows, 1>(page, d + i, weights, weight_stride, begin, end, ahead,
                                      sums + i, work.part_stride);
      }
    }
  });
}

// The same for every query, each of which may attend to other positions of the page: nothing is
// added for those that it does not, as a value of NaN times 0 would.
template <typename V, typename Page>
inline void page_values(const SpanWork<V>& work, const Page& page, int offset, const uint8_t* ahead,
                        float* parts) {
  const auto clip = [offset](int x) {
    return x < offset ? 0 : x > offset + kPageTokens ? kPageTokens : x - offset;
  };
  const auto add = [&](int first, int count, int begin, int end) {
    if (begin >= end) return;
    add_values<V, Page>(work, page, offset, first, count, begin, end, ahead, parts);
  };
  const int heads = work.task.heads;
  for (int first = 0; first < work.queries; first += work.tile_rows) {
    const int end = work.queries < first + work.tile_rows ? work.queries : first + work.tile_rows;
    // What all of the tile attend to, and before and after that row by row.
    int all_begin = clip(work.range(end - 1).begin), all_end = clip(work.range(first).end);
    if (all_begin >= all_end) all_begin = all_end = kPageTokens;
    const auto each_row = [&](auto range) {
      for (int query = first; query < end;) {
        const int row_end = (query / heads + 1) * heads;
        const int next = row_end < end ? row_end : end;
        const SpanRange of_row = work.range(query);
        const SpanRange part = range(clip(of_row.begin), clip(of_row.end));
        add(query, next - query, part.begin, part.end);
        query = next;
      }
    };
    each_row([&](int b, int e) { return SpanRange{b, e < all_begin ? e : all_begin}; });
    if (all_begin == all_end) continue;
    add(first, end - first, all_begin, all_end);
    each_row([&](int b, int e) { return SpanRange{b > all_end ? b : all_end, e}; });
  }
}

// --- pages turned into floats ---

// A multiple of 16. Fetches what lies `ahead` meanwhile.
template <typename V, typename Element>
inline void to_floats(const Element* in, int64_t count, const uint8_t* ahead, float* out) {
  for (int64_t i = 0; i < count; i += 16) {
    __builtin_prefetch(ahead + i * static_cast<int64_t>(sizeof(Element)));
    V::store(out + i, V::load(in + i));
  }
}

template <typename Kept>
inline Kept kept_page(const uint8_t* page, int64_t dimension) {
  return {reinterpret_cast<const typename Kept::Element*>(page),
          reinterpret_cast<const uint16_t*>(page + kv_scales_offset(dimension)), dimension};
}

template <typename V, typename Kept>
inline FloatPage<Kept::kScaled> float_page(const SpanWork<V>& work, const Kept& page,
                                           const uint8_t* ahead) {
  const int64_t dimension = work.task.head_dimension;
  if constexpr (Kept::kScaled) {
    to_floats<V>(page.scales, kv_scales_count(dimension) * kPageTokens, ahead, work.scales);
  }
  to_floats<V>(page.elements, dimension * kPageTokens, ahead, work.floats);
  return {work.floats, work.scales, dimension};
}

// Values that lie in their keys: those, position by position.
template <typename V, typename Page>
inline Page turned_page(const SpanWork<V>& work, const Page& keys) {
  const int64_t dimension = work.task.value_dimension, stride = (dimension + 15) / 16 * 16;
  for (int64_t d = 0; d < dimension; d += 8) {
    for (int t = 0; t < kPageTokens; t += 8) {
      V::transpose8(keys.elements + d * kPageTokens + t, kPageTokens, dimension - d,
                    work.turned + t * stride + d, stride);
    }
  }
  return {work.turned, keys.scales, stride};
}

// --- weights ---

// cap * tanh(x / cap), by tanh y = 1 - 2 / (1 + e^2y).
template <typename V>
inline V capped(V x, float cap) {
  const V power = V::exp(V::mul(x, V::broadcast(2 / cap)));
  const V one = V::broadcast(1);
  const V rest = V::div(V::broadcast(2), V::add(one, power));
  return V::mul(V::broadcast(cap), V::sub(one, rest));
}

// Turns the scores of [begin, end) into weights; fills the head of the query's part.
template <typename V>
inline void weigh(float* scores, SpanRange range, float cap, float* part) {
  V top = V::broadcast(-__builtin_inff());
  for (int t = range.begin & ~15; t < range.end; t += 16) {
    V some = V::load(scores + t);
    if (cap > 0) some = capped(some, cap);
    some = V::keep(some, range.begin - t, range.end - t);
    V::store(scores + t, some);
    top = V::max(top, some);
  }
  const float largest = V::largest(top);
  V total = V::broadcast(0);
  for (int t = range.begin & ~15; t < range.end; t += 16) {
    const V some = V::exp(V::sub(V::load(scores + t), V::broadcast(largest)));
    V::store(scores + t, some);
    total = V::add(total, some);
  }
  part[0] = largest;
  part[1] = V::sum(total);
}

// --- spans ---

template <typename V>
inline void clear_parts(const SpanWork<V>& work, float* parts) {
  for (int query = 0; query < work.queries; ++query) {
    float* part = parts + query * work.part_stride;
    for (int64_t i = 0; i < work.part_stride; i += 16) V::store(part + i, V::broadcast(0));
    part[0] = -__builtin_inff();
  }
}

// Queries side by side, scaled.
template <typename V>
inline void take_queries(const SpanWork<V>& work) {
  const AttendTask& task = work.task;
  const V scale = V::broadcast(task.scale);
  for (int query = 0; query < work.queries; ++query) {
    const float* in = task.q + query / task.heads * task.q_stride +
                      static_cast<int64_t>(query % task.heads) * task.head_dimension;
    float* out = work.q + query * work.q_stride;
    for (int d = 0; d < task.head_dimension; d += 16)
      V::store(out + d, V::mul(V::load_first(in + d, task.head_dimension - d), scale));
  }
}

// How far ahead pages are fetched: with half of it less is there in time, with twice as much what
// is needed is displaced (bench_kernels_attention).
inline constexpr int64_t kAheadBytes = 16 << 10;

// Pages of a span are read in this order: keys from the first to the last, then values.
template <typename V>
struct PageOrder {
  const SpanWork<V>& work;
  const uint8_t* next;  // after all
  int begin, end;       // offsets in the span, of whole pages

  const uint8_t* page(bool of_values, int offset) const {
    const uint8_t* base = of_values && work.task.v != nullptr ? work.task.v : work.task.k;
    return base +
           work.task.pages[(work.start + offset) / kPageTokens] * work.task.page_stride_bytes;
  }
  // What to fetch while the page at `offset` is read. What follows the next page of another unit is
  // a guess: pages that a sequence took one after the other mostly lie so.
  const uint8_t* ahead(bool of_values, int offset) const {
    const int64_t stride = work.task.page_stride_bytes;
    int wanted = offset + static_cast<int>((kAheadBytes + stride - 1) / stride) * kPageTokens;
    if (wanted < end) return page(of_values, wanted);
    wanted += begin - end;
    if (!of_values && wanted < end) return page(true, wanted);
    if (!of_values || next == nullptr) return page(of_values, offset);
    return next + (wanted - begin) / kPageTokens * stride;
  }
};

template <typename V, typename Kept>
inline void gather_span(const AttendTask& task, int64_t span, const uint8_t* next, float* parts) {
  const SpanWork<V> work(task, span);
  const int64_t dimension = task.head_dimension;
  const int end = work.range(work.queries - 1).end;
  const PageOrder<V> order{work, next, work.range(0).begin / kPageTokens * kPageTokens,
                           (end + kPageTokens - 1) / kPageTokens * kPageTokens};
  clear_parts(work, parts);
  take_queries(work);
  // With few queries a page is read as it is; many share the work of turning it into floats.
  const bool few = work.queries <= 2 * V::kTileRows;
  const bool as_kept = few && dimension % 16 == 0 && task.v != nullptr;
  for (int offset = order.begin; offset < end; offset += kPageTokens) {
    const auto page = kept_page<Kept>(order.page(false, offset), dimension);
    const uint8_t* ahead = order.ahead(false, offset);
    if (as_kept) {
      page_scores(work, page, offset, ahead);
    } else {
      page_scores(work, float_page(work, page, ahead), offset, ahead);
    }
  }
  for (int query = 0; query < work.queries; ++query) {
    const SpanRange range = work.range(query);
    if (range.begin == range.end) continue;
    weigh<V>(work.scores + query * work.score_stride, range, task.soft_cap,
             parts + query * work.part_stride);
  }
  for (int offset = order.begin; offset < end; offset += kPageTokens) {
    const auto page = kept_page<Kept>(order.page(true, offset), dimension);
    const uint8_t* ahead = order.ahead(true, offset);
    if (as_kept) {
      page_values(work, page, offset, ahead, parts);
      continue;
    }
    auto floats = float_page(work, page, ahead);
    if (task.v == nullptr) floats = turned_page(work, floats);
    page_values(work, floats, offset, ahead, parts);
  }
}

template <typename V>
inline void gather(const AttendTask& task, int64_t span, const uint8_t* next, float* parts) {
  switch (task.type) {
    case KvType::kF32:
      return gather_span<V, PageTypes<KvType::kF32>::Kept>(task, span, next, parts);
    case KvType::kF16:
      return gather_span<V, PageTypes<KvType::kF16>::Kept>(task, span, next, parts);
    case KvType::kQ8_0:
      return gather_span<V, PageTypes<KvType::kQ8_0>::Kept>(task, span, next, parts);
  }
}

// --- joining ---

template <typename V>
inline void begin_sums(const AttendTask& task, float* sums) {
  const int64_t stride = part_floats(task.value_dimension);
  for (int query = 0; query < task.rows * task.heads; ++query, sums += stride) {
    for (int64_t i = 0; i < stride; i += 16) V::store(sums + i, V::broadcast(0));
    const bool sink = task.sinks != nullptr;
    sums[0] = sink ? task.sinks[query % task.heads] : -__builtin_inff();
    sums[1] = sink ? 1 : 0;
  }
}

// Adds a part to sums, both relative to the larger of their scores. A part of no positions changes
// nothing, not even the sign of a zero.
template <typename V>
inline void add_part(const float* part, int64_t stride, float* sums) {
  if (part[1] == 0) return;
  const float top = part[0] > sums[0] ? part[0] : sums[0];
  const V old_share = V::exp(V::broadcast(sums[0] - top));
  const V share = V::exp(V::broadcast(part[0] - top));
  const float total =
      V::first(V::fma(V::broadcast(part[1]), share, V::mul(V::broadcast(sums[1]), old_share)));
  for (int64_t i = kPartHead; i < stride; i += 16) {
    const V old = V::mul(V::load(sums + i), old_share);
    V::store(sums + i, V::fma(V::load(part + i), share, old));
  }
  sums[0] = top;
  sums[1] = total;
}

template <typename V>
inline void add_parts(const AttendTask& task, const float* parts, float* sums) {
  const int64_t stride = part_floats(task.value_dimension);
  for (int64_t query = 0; query < task.rows * task.heads; ++query)
    add_part<V>(parts + query * stride, stride, sums + query * stride);
}

template <typename V>
inline void write_out(const AttendTask& task, const float* sums) {
  const int64_t stride = part_floats(task.value_dimension);
  for (int64_t query = 0; query < task.rows * task.heads; ++query, sums += stride) {
    const V total = V::broadcast(sums[1]);
    float* out =
        task.out + query / task.heads * task.out_stride + query % task.heads * task.value_dimension;
    for (int i = 0; i < task.value_dimension; i += 16)
      V::store_first(out + i, task.value_dimension - i,
                     V::div(V::load(sums + kPartHead + i), total));
  }
}

// --- the entries of the table ---

template <typename V>
inline void join_spans(const AttendTask& task, const float* parts, int64_t count) {
  begin_sums<V>(task, task.scratch);
  const int64_t stride = part_floats(task.value_dimension) * task.rows * task.heads;
  for (int64_t span = 0; span < count; ++span)
    add_parts<V>(task, parts + span * stride, task.scratch);
  write_out<V>(task, task.scratch);
}

template <typename V>
inline void attend_spans(const AttendTask& task) {
  // Behind what gathering needs.
  const int64_t floats = part_floats(task.value_dimension) * kTaskQueries;
  float* parts =
      task.scratch + attend_scratch_floats(task.head_dimension, task.value_dimension) - 2 * floats;
  float* sums = parts + floats;
  begin_sums<V>(task, sums);
  const int64_t last = last_span(task);
  for (int64_t span = first_span(task); span <= last; ++span) {
    const int64_t after = (span + 1) * kSpanTokens / kPageTokens;
    const uint8_t* next =
        span < last ? task.k + task.pages[after] * task.page_stride_bytes : task.next;
    gather<V>(task, span, next, parts);
    add_parts<V>(task, parts, sums);
  }
  write_out<V>(task, sums);
}

}  // namespace shoal::kernels
