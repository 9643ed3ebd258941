#include "attention_case.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/small_floats.h"

namespace shoal::kernels_test {

using namespace kernels;

Cache::Cache(const KernelTable& table, const AttentionCase& c) : of_(c) {
  const int64_t pages = (c.positions() - 1) / kPageTokens + 1;
  storage_ = *KvStorage::create({.layer_count = 1,
                                 .kv_heads = 1,
                                 .head_dimension = c.head_dimension,
                                 .value_in_key = c.value_in_key ? c.width() : 0},
                                c.type, 2 * pages);
  std::memset(storage_.keys(0, 0, 0), 0xff, storage_.bytes());
  for (int64_t i = 0; i < pages; ++i) pages_.push_back(static_cast<int32_t>(2 * (pages - 1 - i)));
  Random random(static_cast<uint64_t>(c.position * 1000 + c.head_dimension) + c.seed);
  for (int64_t p = 0; p < c.positions(); ++p) {
    for (const bool value : {false, true}) {
      std::vector<float> row(static_cast<size_t>(c.head_dimension));
      for (float& x : row) x = random.symmetric() * (value ? c.value_size : c.key_size);
      if (p >= c.first_of(0) && !(value && c.value_in_key)) store(table, p, value, row);
    }
  }
}

void Cache::store(const KernelTable& table, int64_t position, bool value,
                  const std::vector<float>& row) {
  const int64_t page = pages_[static_cast<size_t>(position / kPageTokens)];
  const int64_t offset = position % kPageTokens;
  if (value) {
    storage_.store_value(table, row.data(), storage_.values(0, page, 0), offset);
  } else {
    storage_.store_key(table, row.data(), storage_.keys(0, page, 0), offset);
  }
}

double Cache::at(int64_t position, bool value, int64_t element) const {
  const int64_t page = pages_[static_cast<size_t>(position / kPageTokens)];
  const bool of_key = !value || of_.value_in_key;
  const uint8_t* bytes = of_key ? storage_.keys(0, page, 0) : storage_.values(0, page, 0);
  const int64_t offset = position % 32;
  const int64_t index = of_key ? element * 32 + offset : offset * of_.head_dimension + element;
  if (of_.type == KvType::kF32) {
    float x;
    std::memcpy(&x, bytes + 4 * index, 4);
    return static_cast<double>(x);
  }
  if (of_.type == KvType::kF16) return static_cast<double>(load_half(bytes + 2 * index));
  const int64_t scale = 32 * of_.head_dimension + 2 * (element / 32 * 32 + offset);
  return static_cast<double>(load_half(bytes + scale)) * static_cast<int8_t>(bytes[index]);
}

std::vector<float> random_queries(const AttentionCase& c) {
  Random random(static_cast<uint64_t>(c.position + 7) + c.seed);
  std::vector<float> q(static_cast<size_t>(c.rows * c.heads * c.head_dimension));
  for (float& x : q) x = random.symmetric() * c.query_size;
  return q;
}

Attending::Attending(const KernelTable& table, const AttentionCase& c, const Cache& cache,
                     const std::vector<float>& q)
    : table_(table), of_(c), cache_(cache), q_(static_cast<size_t>(c.shift), NAN) {
  q_.insert(q_.end(), q.begin(), q.end());
  for (int head = 0; head < c.heads; ++head) sinks_.push_back(c.sink(head));
  scratch_ = *MemoryRegion::create(
      static_cast<uint64_t>(attend_scratch_floats(c.head_dimension, c.width())) * 4, "a test");
  out_.assign(static_cast<size_t>(c.shift + c.rows * stride()) + 1, -7.0f);
}

AttendTask Attending::task(int first_row, int rows, int first_head, int heads) {
  const AttentionCase& c = of_;
  return {.q = q_.data() + c.shift + (first_row * c.heads + first_head) * c.head_dimension,
          .q_stride = int64_t{c.heads} * c.head_dimension,
          .k = cache_.storage().keys(0, 0, 0),
          .v = c.value_in_key ? nullptr : cache_.storage().values(0, 0, 0),
          .page_stride_bytes = cache_.storage().page_stride_bytes(),
          .pages = cache_.pages(),
          .type = c.type,
          .rows = rows,
          .heads = heads,
          .head_dimension = c.head_dimension,
          .value_dimension = c.width(),
          .position = c.position + first_row,
          .window = c.window,
          .start = c.start,
          .scale = c.scale(),
          .soft_cap = c.soft_cap,
          .sinks = c.sinks ? sinks_.data() + first_head : nullptr,
          .scratch = reinterpret_cast<float*>(scratch_.data()),
          .out = out_.data() + c.shift + first_row * stride() + first_head * c.width(),
          .out_stride = stride()};
}

template <typename Job>
void Attending::for_tasks(int rows, int heads, const Job& job) {
  for (int r = 0; r < of_.rows; r += rows) {
    for (int h = 0; h < of_.heads; h += heads)
      job(task(r, std::min(rows, of_.rows - r), h, std::min(heads, of_.heads - h)));
  }
}

std::vector<float> Attending::whole(int rows, int heads) {
  for_tasks(rows, heads, [&](const AttendTask& task) { table_.attend(task); });
  return take();
}

std::vector<float> Attending::by_spans(int rows, int heads) {
  for_tasks(rows, heads, [&](const AttendTask& task) {
    const int64_t first = first_span(task), count = last_span(task) - first + 1;
    const auto floats =
        static_cast<size_t>(task.rows * task.heads * part_floats(task.value_dimension));
    std::vector<float> parts(static_cast<size_t>(count) * floats, 99.0f);
    for (int64_t span = count - 1; span >= 0; --span)
      table_.attend_span(task, first + span, &parts[static_cast<size_t>(span) * floats]);
    table_.attend_join(task, parts.data(), count);
  });
  return take();
}

std::vector<float> Attending::take() {
  EXPECT_EQ(out_.back(), -7.0f);
  for (int i = 0; i < of_.shift; ++i) EXPECT_EQ(out_[static_cast<size_t>(i)], -7.0f);
  std::vector<float> out(out_.begin() + of_.shift, out_.end() - 1);
  std::fill(out_.begin(), out_.end(), -7.0f);
  return out;
}

namespace {

// Of one row and head.
std::vector<double> expected_attention(const AttentionCase& c, const Cache& cache, const float* q,
                                       int row, int head) {
  const int64_t first = c.first_of(row), last = c.position + row;
  std::vector<double> scores, expected(static_cast<size_t>(c.width()), 0.0);
  double largest = c.sinks ? static_cast<double>(c.sink(head)) : -INFINITY, total = 0;
  for (int64_t p = first; p <= last; ++p) {
    double score = 0;
    for (int i = 0; i < c.head_dimension; ++i)
      score += static_cast<double>(q[i]) * cache.at(p, false, i);
    score *= static_cast<double>(c.scale());
    const auto cap = static_cast<double>(c.soft_cap);
    if (cap > 0) score = cap * std::tanh(score / cap);
    scores.push_back(score);
    largest = std::max(largest, score);
  }
  for (int64_t p = first; p <= last; ++p) {
    const double weight = std::exp(scores[static_cast<size_t>(p - first)] - largest);
    total += weight;
    for (int i = 0; i < c.width(); ++i)
      expected[static_cast<size_t>(i)] += weight * cache.at(p, true, i);
  }
  if (c.sinks) total += std::exp(static_cast<double>(c.sink(head)) - largest);
  for (double& x : expected) x /= total;
  return expected;
}

// A score is a sum of `dimension` products: its rounding moves a weight by as much, relatively, so
// a sum of weights over a total by no more than twice that; a cap rounds a few times more. Sums
// over the positions of a span are chains: an ulp of the sum so far each.
void check_values(const AttentionCase& c, const Cache& cache, const std::vector<float>& q,
                  const std::vector<float>& out) {
  const auto size = [](float x) { return static_cast<double>(x); };
  const double product = size(c.query_size) * size(c.key_size) * size(c.scale());
  const double score_error =
      (product * c.head_dimension * c.head_dimension + 8 * size(c.soft_cap)) * 0x1p-24;
  const double largest = size(c.value_in_key ? c.key_size : c.value_size);
  const int64_t count = std::min<int64_t>(c.positions() - c.first_of(0), kSpanTokens);
  const double bound =
      largest * (std::expm1(2 * score_error) + static_cast<double>(64 + count) * 0x1p-24) + 1e-37;
  // All rows of a short case; of a long one those that matter: the first and the last.
  for (int row = 0; row < c.rows;
       row += c.positions() > 600 && row + 1 < c.rows ? std::max(1, c.rows - 1) : 1) {
    for (int head = 0; head < c.heads; ++head) {
      const size_t query = static_cast<size_t>(row * c.heads + head);
      const auto expected = expected_attention(
          c, cache, &q[query * static_cast<size_t>(c.head_dimension)], row, head);
      for (size_t i = 0; i < expected.size(); ++i)
        ASSERT_NEAR(static_cast<double>(out[query * expected.size() + i]), expected[i], bound)
            << "row " << row << ", head " << head << ", element " << i;
    }
  }
}

}  // namespace

std::vector<float> check_attention(const KernelTable& table, const AttentionCase& c) {
  SCOPED_TRACE(
      testing::Message() << isa_name(table.isa) << ", dimension " << c.head_dimension << " ("
                         << c.width() << "), heads " << c.heads << ", rows " << c.rows << " from "
                         << c.position << ", window " << c.window << ", " << kv_type_name(c.type)
                         << (c.value_in_key ? ", values in keys" : "") << ", seed " << c.seed);
  const Cache cache(table, c);
  const auto q = random_queries(c);
  Attending attending(table, c, cache, q);
  const int most_rows = std::max(1, kTaskQueries / c.heads);
  auto out = attending.whole(most_rows, c.heads);
  check_values(c, cache, q, out);
  const auto expect_same = [&](const std::vector<float>& other, const char* how) {
    EXPECT_EQ(std::memcmp(other.data(), out.data(), out.size() * 4), 0) << how;
  };
  expect_same(attending.whole(1, 1), "row by row and head by head");
  expect_same(attending.by_spans(most_rows, c.heads), "span by span");
  if (c.rows > 3 && 3 * c.heads <= kTaskQueries)
    expect_same(attending.whole(3, c.heads), "in threes");
  if (c.heads > 2) expect_same(attending.by_spans(2, 2), "in twos");
  return out;
}

}  // namespace shoal::kernels_test
