// The weights of one rank, packed for one instruction set. Owned by the backend's thread; packing
// runs on its pool.
#pragma once

#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/column_plan.h"
#include "kernels/kernel_table.h"
#include "kernels/memory_region.h"
#include "kernels/program_check.h"
#include "tensor/backend.h"

namespace shoal::kernels {

// A packed matrix with the memory that its view points into.
struct PackedMatrix {
  MatrixView view{};
  std::vector<ColumnPiece> pieces;
  MemoryRegion region;

  PackedMatrix() = default;
  PackedMatrix(PackedMatrix&&) noexcept = default;  // a moved vector keeps its elements in place
  PackedMatrix& operator=(PackedMatrix&&) noexcept = default;
  int64_t unit_count() const { return static_cast<int64_t>(region.size()) / view.unit_bytes; }
};

// Several of one shape, of which a rank may hold some.
struct PackedMatrices {
  std::vector<MatrixView> views;
  std::vector<ColumnPiece> pieces;
  MemoryRegion region;

  PackedMatrices() = default;
  PackedMatrices(PackedMatrices&&) noexcept = default;
  PackedMatrices& operator=(PackedMatrices&&) noexcept = default;
  int64_t unit_count() const {  // of one
    return static_cast<int64_t>(region.size()) / views.front().unit_bytes /
           static_cast<int64_t>(views.size());
  }
};

// Checks a source against what it says of itself: kCorrupt for bytes that its shape does not
// explain, kUnsupported for a type without kernels.
Status check_source(const KernelTable& kernels, const TensorSource& source);

// Cuts and packs. `expected` is what the program asks for once cut. kCorrupt for another shape,
// kInvalidArgument for a cut outside the tensor, kDoesNotFit for more than is free.
Result<PackedMatrix> pack_matrix(const KernelTable& kernels, ThreadPool& pool,
                                 const TensorSource& source, const Cut& cut,
                                 const WeightShape& expected);

// The same for a stack of matrices (WeightUse::kMatrices); transposed ones are held as F32, or as
// F16 where the file has less.
Result<PackedMatrices> pack_matrices(const KernelTable& kernels, ThreadPool& pool,
                                     const TensorSource& source, const WeightSpec& spec,
                                     const WeightShape& expected);

// The same for a vector, as floats, or for several of one length, one after the other. Vectors are
// cut by columns.
Result<std::vector<float>> load_vector(const TensorSource& source, const Cut& cut,
                                       const WeightShape& expected);

}  // namespace shoal::kernels
