// The bytes of a frame on the socket pair between a daemon and its worker. Private to this module;
// any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace shoal {

inline constexpr uint64_t kLargestWorkerFrame = 64 << 20;
inline constexpr size_t kFrameHeaderBytes = 4;

// The length and the text. kTooLarge over kLargestWorkerFrame.
Result<std::string> encode_frame(std::string_view text);
uint64_t decode_frame_length(std::string_view header);  // of at least 4 bytes

// One non-blocking sendmsg, never SIGPIPE, `descriptor` (or -1) riding on its first byte. As the
// system call: bytes, or -1 and errno.
ssize_t send_some(int socket, std::string_view bytes, int descriptor);
// One non-blocking recvmsg. A descriptor that arrives goes to `descriptor` when that is empty; any
// other is closed and counted as a fault of the peer: -1 with EPROTO.
ssize_t receive_some(int socket, char* to, size_t size, UniqueFd& descriptor);

}  // namespace shoal
