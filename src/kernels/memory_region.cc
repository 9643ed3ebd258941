#include "kernels/memory_region.h"

#include <sys/mman.h>

#include "base/cpu.h"
#include "base/units.h"

namespace shoal::kernels {
namespace {

// Asking what is free reads files; small requests do without.
constexpr uint64_t kWorthAsking = 16 << 20;

}  // namespace

Result<MemoryRegion> MemoryRegion::create(uint64_t bytes, std::string_view what) {
  MemoryRegion region;
  if (bytes == 0) return region;
  // Linux grants far more than it has and kills whoever uses it: ask first.
  if (bytes >= kWorthAsking) {
    const uint64_t available = memory_available_bytes();
    if (bytes > available) {
      return fail(ErrorCode::kDoesNotFit, "{} needs {} of memory and {} are free", what,
                  format_bytes(bytes), format_bytes(available));
    }
  }
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return fail(ErrorCode::kDoesNotFit, "{} needs {} of memory, which the system refuses", what,
                format_bytes(bytes));
  }
  region.data_ = static_cast<uint8_t*>(data);
  region.size_ = bytes;
  return region;
}

MemoryRegion::~MemoryRegion() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace shoal::kernels
