#include "transport/byte_stream.h"

namespace shoal {
namespace {

// First bytes in each direction. They can open neither a TLS record nor another service's answer.
constexpr std::string_view kMagic = "SHOALPL";

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
  bool wants_checksums() const override { return true; }
};

}  // namespace

Result<std::unique_ptr<ByteStream>> make_plain_stream(UniqueFd socket, std::string peer,
                                                      Deadline deadline) {
  auto stream = std::make_unique<PlainStream>(std::move(socket), std::move(peer));
  SHOAL_TRY(greet(*stream, kMagic, deadline));
  return stream;
}

}  // namespace shoal
