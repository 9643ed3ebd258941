// Zeroed memory straight from the operating system: pages that nobody writes cost nothing, and a
// request that cannot be met is an error, not the end of the process. Owned by one thread at a
// time.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace shoal::kernels {

class MemoryRegion {
 public:
  // 64-byte aligned. kDoesNotFit names `what` and both numbers when more is asked for than is free.
  static Result<MemoryRegion> create(uint64_t bytes, std::string_view what);
  MemoryRegion() = default;
  MemoryRegion(MemoryRegion&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MemoryRegion& operator=(MemoryRegion&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MemoryRegion();

  uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  uint64_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace shoal::kernels
