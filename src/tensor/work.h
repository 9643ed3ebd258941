// What the operations of a program are called, read and multiply, so that every backend's times can
// be compared with what the machine can do. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/backend.h"
#include "tensor/program.h"

namespace shoal {

// The part of a model that an operation belongs to, for people: "attention", "attention products",
// "feed-forward products", "head products", "norms".
std::string_view part_of(const Program& program, const Operation& operation);

// What a backend holds, as it holds it.
struct HeldBytes {
  std::span<const uint64_t> weights;       // by weight
  std::span<const uint64_t> kv_positions;  // by cache group: one position of one layer
};

struct Work {
  double read_bytes = 0;     // weights and KV cache, each byte once however many rows use it
  double multiply_adds = 0;  // of the products and of attention; other arithmetic is not counted
};
// `experts_read`: of an Experts operation, how many of those held had a row.
Work work_of(const Program& program, const Operation& operation, const StepBatch& batch,
             const HeldBytes& held, int64_t experts_read);

}  // namespace shoal
