#include "transport/framed_link.h"
#include "transport/socket.h"

namespace shoal {

Result<std::unique_ptr<Link>> make_tcp_link(UniqueFd socket, LinkMode mode, bool dialled,
                                            std::span<const std::byte> key, std::string peer,
                                            Deadline deadline) {
  if (auto prepared = prepare_tcp_socket(socket.get()); !prepared) {
    return std::unexpected(prepared.error().within(peer));
  }
  auto stream = mode == LinkMode::kTls
                    ? make_tls_stream(std::move(socket), dialled, key, std::move(peer), deadline)
                    : make_plain_stream(std::move(socket), std::move(peer), deadline);
  if (!stream) return std::unexpected(std::move(stream).error());
  return make_framed_link(std::move(*stream));
}

}  // namespace shoal
