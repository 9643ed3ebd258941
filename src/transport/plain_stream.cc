#include <algorithm>
#include <array>

#include "transport/byte_stream.h"
#include "transport/socket.h"

namespace shoal {
namespace {

// First bytes in each direction. They can open neither a TLS record nor another service's answer.
constexpr std::string_view kGreeting = "SHOALPL1";

class PlainStream final : public ByteStream {
 public:
  using ByteStream::ByteStream;

  Result<size_t> write(std::span<const std::byte> head, std::span<const std::byte> body) override {
    return send_now(head, body);
  }
  Result<size_t> read(std::span<std::byte> head, std::span<std::byte> body) override {
    return receive_now(head, body);
  }
  Result<bool> flush() override { return true; }
  bool flushed() const override { return true; }
};

Status greet(PlainStream& stream, Deadline deadline) {
  // Eight bytes always fit into the buffer of a fresh socket.
  SHOAL_ASSIGN(const size_t sent, stream.write(as_bytes(kGreeting), {}));
  if (sent != kGreeting.size()) {
    return fail(ErrorCode::kUnreachable, "the link to {} takes no bytes", stream.peer());
  }
  std::array<std::byte, kGreeting.size()> answer;
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
  if (as_text(answer) != kGreeting) {
    return fail(
        ErrorCode::kCorrupt,
        "{} does not speak Shoal's plain link protocol; it may be set to tls, or be another "
        "version",
        stream.peer());
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ByteStream>> make_plain_stream(UniqueFd socket, std::string peer,
                                                      Deadline deadline) {
  auto stream = std::make_unique<PlainStream>(std::move(socket), std::move(peer));
  SHOAL_TRY(greet(*stream, deadline));
  return stream;
}

}  // namespace shoal
