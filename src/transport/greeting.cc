#include <array>

#include "transport/byte_stream.h"
#include "transport/socket.h"

namespace shoal {
namespace {

constexpr size_t kMagicBytes = 7;
constexpr size_t kGreetingBytes = kMagicBytes + 1;
constexpr char kFirstVersion = '1';

Status push(ByteStream& stream, std::string_view greeting, Deadline deadline) {
  // Eight bytes always fit into the buffer of a fresh socket.
  SHOAL_ASSIGN(const size_t sent, stream.write(as_bytes(greeting), {}));
  if (sent != greeting.size()) {
    return fail(ErrorCode::kUnreachable, "the link to {} takes no bytes", stream.peer());
  }
  while (!stream.flushed()) {
    pollfd writable{stream.descriptor(), POLLOUT, 0};
    SHOAL_ASSIGN(const bool ready, wait_for({&writable, 1}, deadline));
    if (!ready) {
      return fail(ErrorCode::kDeadline, "{} did not take our greeting in time", stream.peer());
    }
    SHOAL_TRY(stream.flush());
  }
  return {};
}

}  // namespace

Status greet(ByteStream& stream, std::string_view magic, Deadline deadline) {
  SHOAL_CHECK(magic.size() == kMagicBytes);
  SHOAL_TRY(push(stream, fmt::format("{}{}", magic, kWireVersion), deadline));
  std::array<std::byte, kGreetingBytes> answer;
  size_t got = 0;
  while (got < answer.size()) {
    SHOAL_ASSIGN(const size_t more, stream.read(std::span(answer).subspan(got), {}));
    got += more;
    if (more > 0) continue;
    pollfd readable{stream.descriptor(), POLLIN, 0};
    SHOAL_ASSIGN(const bool ready, wait_for({&readable, 1}, deadline));
    if (!ready) {
      return fail(ErrorCode::kDeadline, "{} did not greet in time; is its process stopped?",
                  stream.peer());
    }
  }
  const std::string_view text = as_text(answer);
  const char version = text.back();
  if (!text.starts_with(magic) || version < kFirstVersion || version > '9') {
    return fail(ErrorCode::kCorrupt,
                "{} does not speak Shoal's link protocol in this mode; one end may be set to tls "
                "and the other to plain",
                stream.peer());
  }
  if (version - '0' != kWireVersion) {
    return fail(ErrorCode::kUnsupported,
                "{} speaks version {} of Shoal's link protocol and this end version {}; run the "
                "same Shoal on both machines",
                stream.peer(), version, kWireVersion);
  }
  return {};
}

}  // namespace shoal
