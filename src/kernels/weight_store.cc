#include "kernels/weight_store.h"

#include <algorithm>
#include <functional>

#include "kernels/file_blocks.h"

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
      : bytes_(reinterpret_cast<const uint8_t*>(source.bytes.data())),
        row_bytes_(static_cast<int64_t>(row_bytes(source.type, source.columns))),
        ranges_(ranges) {}

  const uint8_t* operator[](int64_t row) const {
    for (const Range& range : ranges_) {
      if (row < range.size()) return bytes_ + (range.begin + row) * row_bytes_;
      row -= range.size();
    }
    return nullptr;
  }

 private:
  const uint8_t* bytes_;
  int64_t row_bytes_;
  const std::vector<Range>& ranges_;
};

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

  const auto piece_count = static_cast<int64_t>(matrix.pieces.size());
  const int64_t unit = kernels.row_unit, units = (rows + unit - 1) / unit;
  const int64_t unit_bytes = kernels.unit_bytes(source.type, matrix.pieces.data(), piece_count);
  SHOAL_ASSIGN(matrix.region, MemoryRegion::create(static_cast<uint64_t>(units * unit_bytes),
                                                   fmt::format("tensor '{}'", source.name)));
  matrix.view = {source.type,          rows,       columns, matrix.region.data(), unit_bytes,
                 matrix.pieces.data(), piece_count};

  const KeptRows kept_rows(source, ranges);
  const auto job = [&](int index) {
    const int64_t threads = pool.thread_count();
    for (int64_t u = units * index / threads; u < units * (index + 1) / threads; ++u) {
      const uint8_t* sources[kGroupRows] = {};
      for (int64_t i = 0; i < unit && u * unit + i < rows; ++i)
        sources[i] = kept_rows[u * unit + i];
      kernels.pack(source.type, sources, matrix.pieces.data(), piece_count,
                   matrix.region.data() + u * unit_bytes);
    }
  };
  pool.run(std::ref(job));
  return matrix;
}

Result<std::vector<float>> load_vector(const TensorSource& source, const Cut& cut,
                                       const WeightShape& expected) {
  SHOAL_ASSIGN(const std::vector<ColumnPiece> pieces,
               plan_columns(source.type, source.columns, cut.columns));
  SHOAL_ASSIGN(const std::vector<Range> rows, plan_rows(source.rows, cut.rows));
  const int64_t columns = kept(cut.columns, source.columns);
  SHOAL_TRY(check_shape(source, kept(cut.rows, source.rows), columns, expected));
  std::vector<float> values(static_cast<size_t>(columns));
  const KeptRows kept_rows(source, rows);
  for (const ColumnPiece& piece : pieces) {
    dequantise(source.type, kept_rows[0], piece.source_column, piece.count,
               values.data() + piece.first);
  }
  return values;
}

}  // namespace shoal::kernels
