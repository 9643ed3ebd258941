#include "product_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/thread_pool.h"
#include "kernels/memory_region.h"
#include "kernels/weight_store.h"

namespace shoal::kernels_test {

using namespace kernels;

Inputs::Inputs(const KernelTable& table, ElementType type, const std::vector<float>& rows,
               int64_t columns, int64_t shift, bool ever_apart)
    : first(shift),
      width(columns),
      stride((columns + 31) / 32 + 1),
      count(static_cast<int64_t>(rows.size()) / columns),
      quantised(table.takes_codes(type)),
      apart(ever_apart && takes_apart(table, count)),
      values(static_cast<size_t>(shift), NAN) {
  values.insert(values.end(), rows.begin(), rows.end());
  blocks.resize(static_cast<size_t>(shift + count * stride));
  codes.resize(blocks.size() * kCodeBytes);
  for (int64_t r = 0; quantised && r < count; ++r) {
    quantise_rows(table, apart, &values[static_cast<size_t>(first + r * width)], width,
                  &codes[static_cast<size_t>(4 * shift + r * stride * kCodeBytes)],
                  &blocks[static_cast<size_t>(shift + r * stride)]);
  }
}

InputRows Inputs::view() const {
  return {values.data() + first, width,  codes.data() + 4 * first,
          blocks.data() + first, stride, apart};
}

double Inputs::rounding(int64_t row, int64_t column) const {
  if (!quantised) return 0;
  double largest = 0;
  for (int64_t c = column / 32 * 32; c < column / 32 * 32 + 32; ++c)
    largest = std::max(largest, std::fabs(value(row, c)));
  return largest / 127 / 252 * 0.51 + 1e-33;
}

void* scratch() {
  static const MemoryRegion region = *MemoryRegion::create(kProductScratchBytes, "the test");
  return region.data();
}

std::vector<int64_t> kept_indices(const std::vector<Range>& ranges, int64_t all) {
  std::vector<int64_t> result;
  for (const Range& range : ranges.empty() ? std::vector<Range>{{0, all}} : ranges) {
    for (int64_t i = range.begin; i < range.end; ++i) result.push_back(i);
  }
  return result;
}

std::vector<float> random_inputs(int64_t rows, int64_t columns, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (float& value : values) {
    value = random.symmetric();
    if (random.below(40) == 0) value *= 30;  // activations have outliers
  }
  return values;
}

namespace {

void check_values(Isa isa, const Case& c, const Inputs& in, const std::vector<std::byte>& bytes,
                  const std::vector<float>& got) {
  const auto rows = kept_indices(c.cut.rows, c.rows),
             columns = kept_indices(c.cut.columns, c.columns);
  const size_t width = columns.size();
  // Float products add up `width` terms; quantised ones a few per block of 32.
  const double operations = in.quantised             ? 8.0 * static_cast<double>(width) / 32 + 32
                            : isa == Isa::kReference ? 4
                                                     : static_cast<double>(width) + 4;
  std::vector<double> values(static_cast<size_t>(in.count) * width), roundings(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const auto row = static_cast<int64_t>(i / width), column = static_cast<int64_t>(i % width);
    values[i] = in.value(row, column);
    roundings[i] = in.rounding(row, column);
  }
  std::vector<Element> weights(width);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t i = 0; i < width; ++i)
      weights[i] = element_at(c.type, bytes, c.columns, rows[r], columns[i]);
    for (int64_t m = 0; m < in.count; ++m) {
      const double* value = &values[static_cast<size_t>(m) * width];
      const double* rounding = &roundings[static_cast<size_t>(m) * width];
      double sum = 0, moved = 0, size = 0;
      for (size_t i = 0; i < width; ++i) {
        sum += weights[i].value * value[i];
        moved += std::fabs(weights[i].value) * rounding[i];
        size += weights[i].magnitude * (std::fabs(value[i]) + rounding[i]);
      }
      const double bound = moved + operations * kHalfUlp * size + 1e-37;
      const auto result = static_cast<double>(got[static_cast<size_t>(m) * rows.size() + r]);
      ASSERT_LE(std::fabs(result - sum), bound)
          << "row " << r << ", input " << m << ": " << result << " for " << sum;
    }
  }
}

}  // namespace

std::vector<float> check_product(Isa isa, const Case& c, uint64_t seed) {
  SCOPED_TRACE(testing::Message() << isa_name(isa) << " " << name_of(c.type) << " " << c.rows
                                  << " x " << c.columns << ", seed " << seed << ", moved by "
                                  << c.shift);
  const KernelTable& table = *kernels_for(isa);
  ThreadPool pool(1);
  const auto bytes = random_tensor(c.type, c.rows, c.columns, seed, c.scales);
  auto moved = bytes;
  moved.insert(moved.begin(), static_cast<size_t>(c.shift), std::byte{});
  const TensorSource source = {"test", c.type, c.rows, c.columns,
                               std::span(moved).subspan(static_cast<size_t>(c.shift))};
  const auto matrix = pack_matrix(table, pool, source, c.cut, {});
  if (!matrix) {
    ADD_FAILURE() << matrix.error().message;
    return {};
  }
  const auto row_count = static_cast<int64_t>(kept_indices(c.cut.rows, c.rows).size());
  const auto width = static_cast<int64_t>(kept_indices(c.cut.columns, c.columns).size());
  const Inputs in(table, c.type, c.inputs, width, c.shift);

  constexpr float kUntouched = -12345.5f;
  const int64_t stride = row_count + 3;
  std::vector<float> out(static_cast<size_t>(c.shift + in.count * stride), kUntouched);
  table.product(c.type)(matrix->view, in.view(), in.count, 0, matrix->unit_count(), scratch(),
                        out.data() + c.shift, stride);
  std::vector<float> result;
  for (int64_t m = 0; m < in.count; ++m) {
    const auto row = out.begin() + c.shift + m * stride;
    result.insert(result.end(), row, row + row_count);
    EXPECT_EQ(std::count(row + row_count, row + stride, kUntouched), stride - row_count)
        << "wrote beyond the rows";
  }
  EXPECT_EQ(std::count(out.begin(), out.begin() + c.shift, kUntouched), c.shift);
  check_values(isa, c, in, bytes, result);
  return result;
}

}  // namespace shoal::kernels_test
