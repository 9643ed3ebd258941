#include "transport/shm_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <new>
#include <utility>

#include "base/file.h"

namespace shoal {
namespace {

Result<std::span<std::byte>> map_all(int descriptor, size_t size) {
  // Populated, so that no page is first touched on the path of a token.
  void* const at =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, 0);
  if (at == MAP_FAILED) return system_error("cannot map", "the memory of a link");
  return std::span(static_cast<std::byte*>(at), size);
}

}  // namespace

Status ShmSegment::format(int descriptor, size_t ring_bytes) {
  if (!std::has_single_bit(ring_bytes) || ring_bytes < kSmallestShmRing ||
      ring_bytes > kLargestShmRing) {
    return fail(ErrorCode::kInvalidArgument,
                "a ring of a link in shared memory has {} bytes; it must be a power of two from {} "
                "to {}",
                ring_bytes, kSmallestShmRing, kLargestShmRing);
  }
  const size_t size = kShmRingsAt + 2 * ring_bytes;
  // Sealed: a peer that shrank the memory would end this process by SIGBUS.
  if (::ftruncate(descriptor, static_cast<off_t>(size)) != 0 ||
      ::fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return system_error("cannot size", "the memory of a link");
  }
  SHOAL_ASSIGN(const std::span<std::byte> bytes, map_all(descriptor, size));
  const ShmSegment segment(bytes);
  (new (bytes.data()) ShmHead{})->magic = kShmMagic;
  return {};
}

Result<ShmSegment> ShmSegment::map(int descriptor) {
  struct stat info{};
  if (::fstat(descriptor, &info) != 0) return system_error("cannot look at", "a link's memory");
  const int seals = ::fcntl(descriptor, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return fail(ErrorCode::kCorrupt, "the memory of a link could shrink while it is in use");
  }
  const auto size = static_cast<size_t>(info.st_size);
  const size_t ring_bytes = size > kShmRingsAt ? (size - kShmRingsAt) / 2 : 0;
  if (!std::has_single_bit(ring_bytes) || ring_bytes < kSmallestShmRing ||
      ring_bytes > kLargestShmRing || size != kShmRingsAt + 2 * ring_bytes) {
    return fail(ErrorCode::kCorrupt, "the memory of a link has {} bytes, which are no two rings",
                size);
  }
  SHOAL_ASSIGN(const std::span<std::byte> bytes, map_all(descriptor, size));
  ShmSegment segment(bytes);
  if (const uint64_t magic = segment.head().magic.load(); magic != kShmMagic) {
    return fail(ErrorCode::kCorrupt,
                "the memory of a link begins with {:016x}, not {:016x}: another version of Shoal "
                "made it",
                magic, kShmMagic);
  }
  return segment;
}

ShmSegment::ShmSegment(ShmSegment&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

ShmSegment::~ShmSegment() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace shoal
