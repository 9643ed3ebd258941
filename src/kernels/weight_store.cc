#include "kernels/weight_store.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "kernels/file_blocks.h"
#include "kernels/small_floats.h"

namespace shoal::kernels {
namespace {

Status check_shape(const TensorSource& source, int64_t rows, int64_t columns,
                   const WeightShape& expected) {
  if ((expected.rows < 0 || expected.rows == rows) &&
      (expected.columns < 0 || expected.columns == columns)) {
    return {};
  }
  const auto side = [](int64_t count) {
    return count < 0 ? std::string("any") : std::to_string(count);
  };
  return fail(ErrorCode::kCorrupt,
              "tensor '{}' gives {} x {} where the model wants {} x {} (rows x columns)",
              source.name, rows, columns, side(expected.rows), side(expected.columns));
}

// Where kept row `row` begins in the file.
class KeptRows {
 public:
  KeptRows(const TensorSource& source, const std::vector<Range>& ranges)
      : source_(source),
        bytes_(reinterpret_cast<const uint8_t*>(source.bytes.data())),
        row_bytes_(static_cast<int64_t>(row_bytes(source.type, source.columns))),
        ranges_(ranges) {}

  const uint8_t* operator[](int64_t row) const {
    for (const Range& range : ranges_) {
      if (row < range.size()) return bytes_ + (range.begin + row) * row_bytes_;
      row -= range.size();
    }
    return nullptr;
  }
  int64_t bytes_each() const { return row_bytes_; }
  const TensorSource& source() const { return source_; }

 private:
  const TensorSource& source_;
  const uint8_t* bytes_;
  int64_t row_bytes_;
  const std::vector<Range>& ranges_;
};

// Tells the source which rows one thread has done with, of those that follow one another as much
// as is worth a system call at once.
class RowsBehind {
 public:
  explicit RowsBehind(const KeptRows& rows) : rows_(rows) {}
  ~RowsBehind() { tell(); }
  RowsBehind(const RowsBehind&) = delete;
  RowsBehind& operator=(const RowsBehind&) = delete;

  void add(const uint8_t* row) {
    if (!rows_.source().done_with) return;
    constexpr int64_t kToldBytes = 1 << 20;
    if (row != end_ || end_ - begin_ >= kToldBytes) {
      tell();
      begin_ = row;
    }
    end_ = row + rows_.bytes_each();
  }

 private:
  void tell() const {
    if (begin_ != end_) rows_.source().done_with(std::as_bytes(std::span(begin_, end_)));
  }

  const KeptRows& rows_;
  const uint8_t* begin_ = nullptr;
  const uint8_t* end_ = nullptr;
};

// How the rows of one matrix lie.
struct Layout {
  int64_t unit;
  int64_t units;
  int64_t unit_bytes;
  int64_t bytes() const { return units * unit_bytes; }
};

Layout layout_of(const KernelTable& kernels, ElementType type,
                 const std::vector<ColumnPiece>& pieces, int64_t rows) {
  const int64_t unit = kernels.row_unit;
  return {unit, (rows + unit - 1) / unit,
          kernels.unit_bytes(type, pieces.data(), static_cast<int64_t>(pieces.size()))};
}

MatrixView view_of(ElementType type, int64_t rows, int64_t columns,
                   const std::vector<ColumnPiece>& pieces, const Layout& layout,
                   const uint8_t* bytes) {
  return {type,
          rows,
          columns,
          bytes,
          layout.unit_bytes,
          pieces.data(),
          static_cast<int64_t>(pieces.size())};
}

void pack_units(const KernelTable& kernels, ThreadPool& pool, const KeptRows& rows,
                const MatrixView& view, const Layout& layout) {
  const auto job = [&](int index) {
    const int64_t threads = pool.thread_count();
    RowsBehind behind(rows);
    for (int64_t u = layout.units * index / threads; u < layout.units * (index + 1) / threads;
         ++u) {
      const uint8_t* sources[kGroupRows] = {};
      const int64_t count = std::min(layout.unit, view.rows - u * layout.unit);
      for (int64_t i = 0; i < count; ++i) sources[i] = rows[u * layout.unit + i];
      kernels.pack(view.type, sources, view.pieces, view.piece_count,
                   const_cast<uint8_t*>(view.bytes) + u * layout.unit_bytes);
      for (int64_t i = 0; i < count; ++i) behind.add(sources[i]);
    }
  };
  pool.run(std::ref(job));
}

// The kept part of a matrix, turned, as numbers of `type` (F32 or F16). `count` is its kept rows.
std::vector<uint8_t> transposed(const TensorSource& source, const std::vector<Range>& rows,
                                const std::vector<ColumnPiece>& columns, int64_t count,
                                ElementType type) {
  const int64_t width = columns.back().first + columns.back().count;
  const size_t element = type == ElementType::kF32 ? 4 : 2;
  std::vector<uint8_t> out(static_cast<size_t>(count * width) * element);
  std::vector<float> line(static_cast<size_t>(width));
  const KeptRows kept_rows(source, rows);
  for (int64_t row = 0; row < count; ++row) {
    for (const ColumnPiece& piece : columns) {
      dequantise(source.type, kept_rows[row], piece.source_column, piece.count,
                 line.data() + piece.first);
    }
    for (int64_t column = 0; column < width; ++column) {
      uint8_t* at = out.data() + static_cast<size_t>(column * count + row) * element;
      const float value = line[static_cast<size_t>(column)];
      const uint16_t half = float_to_half(value);
      element == 4 ? std::memcpy(at, &value, 4) : std::memcpy(at, &half, 2);
    }
  }
  return out;
}

}  // namespace

Status check_source(const KernelTable& kernels, const TensorSource& source) {
  const ElementTraits* traits = element_traits(static_cast<uint32_t>(source.type));
  if (traits == nullptr || kernels.product(source.type) == nullptr) {
    return fail(ErrorCode::kUnsupported, "tensor '{}' {}", source.name,
                unsupported_element_type(static_cast<uint32_t>(source.type)));
  }
  if (source.rows < 1 || source.columns < 1 || source.columns % traits->block_elements != 0) {
    return fail(ErrorCode::kCorrupt, "tensor '{}' of type {} has {} rows of {} columns",
                source.name, traits->name, source.rows, source.columns);
  }
  const uint64_t have = source.bytes.size();
  const uint64_t per_row = row_bytes(source.type, source.columns);
  if (have % per_row != 0 || have / per_row != static_cast<uint64_t>(source.rows)) {
    return fail(ErrorCode::kCorrupt, "tensor '{}' has {} bytes where {} rows of {} are {} each",
                source.name, have, source.rows, traits->name, per_row);
  }
  return {};
}

Result<PackedMatrix> pack_matrix(const KernelTable& kernels, ThreadPool& pool,
                                 const TensorSource& source, const Cut& cut,
                                 const WeightShape& expected) {
  PackedMatrix matrix;
  SHOAL_ASSIGN(matrix.pieces, plan_columns(source.type, source.columns, cut.columns));
  SHOAL_ASSIGN(const std::vector<Range> ranges, plan_rows(source.rows, cut.rows));
  const int64_t rows = kept(cut.rows, source.rows), columns = kept(cut.columns, source.columns);
  SHOAL_TRY(check_shape(source, rows, columns, expected));

  const Layout layout = layout_of(kernels, source.type, matrix.pieces, rows);
  SHOAL_ASSIGN(matrix.region, MemoryRegion::create(static_cast<uint64_t>(layout.bytes()),
                                                   fmt::format("tensor '{}'", source.name)));
  matrix.view = view_of(source.type, rows, columns, matrix.pieces, layout, matrix.region.data());
  const KeptRows kept_rows(source, ranges);
  pack_units(kernels, pool, kept_rows, matrix.view, layout);
  return matrix;
}

Result<PackedMatrices> pack_matrices(const KernelTable& kernels, ThreadPool& pool,
                                     const TensorSource& source, const WeightSpec& spec,
                                     const WeightShape& expected) {
  if (spec.matrix_count < 1 || source.rows % spec.matrix_count != 0) {
    return fail(ErrorCode::kCorrupt, "tensor '{}' has {} rows, which are not {} matrices",
                source.name, source.rows, spec.matrix_count);
  }
  TensorSource one = source;
  one.rows = source.rows / spec.matrix_count;
  const size_t bytes_each = source.bytes.size() / static_cast<size_t>(spec.matrix_count);
  SHOAL_ASSIGN(std::vector<Range> ranges, plan_rows(one.rows, spec.cut.rows));
  SHOAL_ASSIGN(const std::vector<ColumnPiece> columns_kept,
               plan_columns(source.type, source.columns, spec.cut.columns));
  int64_t rows = kept(spec.cut.rows, one.rows);
  int64_t columns = kept(spec.cut.columns, source.columns);
  ElementType type = source.type;
  if (spec.transposed) {
    std::swap(rows, columns);
    type = type == ElementType::kF32 ? ElementType::kF32 : ElementType::kF16;
  }
  SHOAL_TRY(check_shape(source, rows, columns, expected));

  PackedMatrices stack;
  SHOAL_ASSIGN(stack.pieces, spec.transposed
                                 ? plan_columns(type, columns, {})
                                 : plan_columns(type, source.columns, spec.cut.columns));
  const Range held = spec.kept.size() > 0 ? spec.kept : Range{0, spec.matrix_count};
  if (held.begin < 0 || held.end > spec.matrix_count) {
    return fail(ErrorCode::kInvalidArgument,
                "matrices {} to {} of the {} of tensor '{}' were asked for", held.begin, held.end,
                spec.matrix_count, source.name);
  }
  const Layout layout = layout_of(kernels, type, stack.pieces, rows);
  SHOAL_ASSIGN(stack.region,
               MemoryRegion::create(static_cast<uint64_t>(layout.bytes() * held.size()),
                                    fmt::format("tensor '{}'", source.name)));
  for (int64_t index = held.begin; index < held.end; ++index) {
    one.bytes = source.bytes.subspan(static_cast<size_t>(index) * bytes_each, bytes_each);
    uint8_t* out = stack.region.data() + (index - held.begin) * layout.bytes();
    stack.views.push_back(view_of(type, rows, columns, stack.pieces, layout, out));
    const std::vector<uint8_t> turned = spec.transposed
                                            ? transposed(one, ranges, columns_kept, columns, type)
                                            : std::vector<uint8_t>();
    if (spec.transposed) {
      const TensorSource flipped{source.name, type, rows, columns,
                                 std::as_bytes(std::span(turned))};
      const std::vector<Range> all = {{0, rows}};
      pack_units(kernels, pool, KeptRows(flipped, all), stack.views.back(), layout);
      if (source.done_with) source.done_with(one.bytes);
    } else {
      pack_units(kernels, pool, KeptRows(one, ranges), stack.views.back(), layout);
    }
  }
  return stack;
}

Result<std::vector<float>> load_vector(const TensorSource& source, const Cut& cut,
                                       const WeightShape& expected) {
  SHOAL_ASSIGN(const std::vector<ColumnPiece> pieces,
               plan_columns(source.type, source.columns, cut.columns));
  SHOAL_ASSIGN(const std::vector<Range> rows, plan_rows(source.rows, cut.rows));
  const int64_t columns = kept(cut.columns, source.columns);
  const int64_t row_count = kept(cut.rows, source.rows);
  SHOAL_TRY(check_shape(source, row_count, columns, expected));
  std::vector<float> values(static_cast<size_t>(row_count * columns));
  const KeptRows kept_rows(source, rows);
  for (int64_t row = 0; row < row_count; ++row) {
    for (const ColumnPiece& piece : pieces) {
      dequantise(source.type, kept_rows[row], piece.source_column, piece.count,
                 values.data() + row * columns + piece.first);
    }
  }
  return values;
}

}  // namespace shoal::kernels
