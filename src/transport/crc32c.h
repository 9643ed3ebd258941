// CRC-32C (Castagnoli: RFC 3720 appendix B.4), by the processor's instruction where it has one.
// Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace shoal {

// The checksum of what `so_far` is the checksum of, followed by `bytes`. 0 for nothing yet.
uint32_t crc32c(uint32_t so_far, std::span<const std::byte> bytes);
// The same by tables alone, for processors without the instruction and to check it by.
uint32_t crc32c_by_table(uint32_t so_far, std::span<const std::byte> bytes);

}  // namespace shoal
