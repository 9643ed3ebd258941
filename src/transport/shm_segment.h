// The memory of a shm link. Private to this module. Both ends map it; each end writes only what is
// its own, reads the other's as it would read the network, and copies before it looks.
// docs/formats/wire.md has the layout.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace shoal {

inline constexpr uint64_t kShmMagic = 0x32'4d'53'4c'41'4f'48'53;  // "SHOALSM2"
inline constexpr size_t kShmRingsAt = 4096;  // of two rings, one after the other
inline constexpr size_t kSmallestShmRing = 4096;
inline constexpr size_t kLargestShmRing = 1ull << 30;
inline constexpr size_t kCacheLine = 64;

enum class ShmState : uint32_t { kOpen, kEnded, kFailed };

// Bytes ever written and ever read: their difference is what is on its way. A flag says that its
// side sleeps and wants a byte on the socket when the other has moved something.
struct ShmRing {
  alignas(kCacheLine) std::atomic<uint64_t> written;
  alignas(kCacheLine) std::atomic<uint64_t> read;
  alignas(kCacheLine) std::atomic<uint32_t> reader_asleep;
  alignas(kCacheLine) std::atomic<uint32_t> writer_asleep;
};

struct ShmHead {
  std::atomic<uint64_t> magic;
  std::array<std::atomic<uint32_t>, 2> states;  // ShmState of the first and the second end
  std::array<ShmRing, 2> rings;                 // written by the first end, by the second
};
static_assert(sizeof(ShmRing) == 4 * kCacheLine && sizeof(ShmHead) == 9 * kCacheLine);
static_assert(sizeof(ShmHead) <= kShmRingsAt);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

// A mapping of the whole segment.
class ShmSegment {
 public:
  static Result<ShmSegment> map(int descriptor);  // checks its seals, size and magic
  static Status format(int descriptor, size_t ring_bytes);
  ShmSegment(ShmSegment&& other) noexcept;
  ShmSegment& operator=(ShmSegment&&) = delete;
  ~ShmSegment();

  ShmHead& head() const { return *reinterpret_cast<ShmHead*>(bytes_.data()); }
  std::span<std::byte> ring(size_t index) const {
    return bytes_.subspan(kShmRingsAt + index * ring_bytes(), ring_bytes());
  }
  size_t ring_bytes() const { return (bytes_.size() - kShmRingsAt) / 2; }

 private:
  explicit ShmSegment(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

}  // namespace shoal
