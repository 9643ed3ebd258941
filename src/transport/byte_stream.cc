#include "transport/byte_stream.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "transport/socket.h"

namespace shoal {
namespace {

msghdr gather(iovec (&parts)[2]) {
  msghdr message{};
  message.msg_iov = parts[0].iov_len > 0 ? parts : parts + 1;
  message.msg_iovlen = parts[0].iov_len > 0 ? 2 : 1;
  return message;
}

bool would_block(int error_number) {
  return error_number == EAGAIN || error_number == EWOULDBLOCK;
}

}  // namespace

Result<size_t> ByteStream::send_now(std::span<const std::byte> head,
                                    std::span<const std::byte> body) {
  iovec parts[2] = {{const_cast<std::byte*>(head.data()), head.size()},
                    {const_cast<std::byte*>(body.data()), body.size()}};
  const msghdr message = gather(parts);
  while (true) {
    const ssize_t sent = ::sendmsg(descriptor(), &message, MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (would_block(errno)) return 0;
    if (errno != EINTR) return lost(errno);
  }
}

Result<size_t> ByteStream::receive_now(std::span<std::byte> head, std::span<std::byte> body) {
  if (head.empty() && body.empty()) return 0;
  iovec parts[2] = {{head.data(), head.size()}, {body.data(), body.size()}};
  msghdr message = gather(parts);
  while (true) {
    const ssize_t got = ::recvmsg(descriptor(), &message, 0);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) return closed_by_peer();
    if (would_block(errno)) return 0;
    if (errno != EINTR) return lost(errno);
  }
}

Status ByteStream::check_peer() {
  const bool doubted_before = std::exchange(doubted_, looks_cut_off(descriptor()));
  if (!doubted_ || !doubted_before) return {};
  return fail(ErrorCode::kUnreachable,
              "{} is cut off: its machine has not answered for about 2 s; look at the network "
              "between the two, and whether that machine still runs",
              peer_);
}

void ByteStream::reset() {
  reset_on_close(descriptor());
}

std::unexpected<Error> ByteStream::closed_by_peer() const {
  return fail(ErrorCode::kUnreachable, "{} closed its link: it has ended or failed", peer_);
}

std::unexpected<Error> ByteStream::lost(int error_number) const {
  return fail(ErrorCode::kUnreachable, "the link to {} was lost: {}", peer_,
              std::generic_category().message(error_number));
}

}  // namespace shoal
