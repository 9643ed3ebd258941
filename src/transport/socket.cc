#include "transport/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "transport/link.h"

namespace shoal {
namespace {

// The kernel gives a connection up when sent bytes stay unacknowledged, or the peer's window
// closed, for so long. Longer than any step, because a peer that computes does not read: a shorter
// one would end a healthy pipeline. looks_cut_off() tells the two apart; this is for nobody
// looking.
constexpr int kUserTimeout_ms = 30'000;
constexpr int kKeepaliveIdle_s = 1;
constexpr int kKeepaliveInterval_s = 1;
constexpr int kKeepaliveProbes = 4;
// Silence that is longer than the pause between probes is suspicious, and soon too long.
constexpr uint32_t kSuspicious_ms = 1100;
constexpr uint32_t kSilence_ms = 1600;
constexpr uint32_t kLeastProbes = 3;
constexpr uint32_t kLeastRetransmissions = 2;

Status set_option(int socket, int level, int option, int value, const char* name) {
  if (::setsockopt(socket, level, option, &value, sizeof value) == 0) return {};
  return system_error("cannot set the socket option", name);
}

}  // namespace

Result<bool> wait_for(std::span<pollfd> descriptors, Deadline deadline) {
  while (true) {
    timespec left{};
    if (deadline != kNoDeadline) {
      const auto remaining = std::chrono::duration_cast<std::chrono::nanoseconds>(
          std::max(deadline - Clock::now(), Clock::duration::zero()));
      left.tv_sec = remaining.count() / 1'000'000'000;
      left.tv_nsec = remaining.count() % 1'000'000'000;
    }
    const int ready = ::ppoll(descriptors.data(), descriptors.size(),
                              deadline == kNoDeadline ? nullptr : &left, nullptr);
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return system_error("cannot wait for", "a socket");
  }
}

Status set_nonblocking(int socket) {
  const int flags = ::fcntl(socket, F_GETFL);
  if (flags < 0 || ::fcntl(socket, F_SETFL, flags | O_NONBLOCK) != 0) {
    return system_error("cannot make non-blocking", "a socket");
  }
  return {};
}

Status prepare_tcp_socket(int socket) {
  SHOAL_TRY(set_nonblocking(socket));
  SHOAL_TRY(set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
  SHOAL_TRY(set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"));
  SHOAL_TRY(set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdle_s, "TCP_KEEPIDLE"));
  SHOAL_TRY(set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveInterval_s, "TCP_KEEPINTVL"));
  SHOAL_TRY(set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes, "TCP_KEEPCNT"));
  return set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeout_ms, "TCP_USER_TIMEOUT");
}

bool looks_cut_off(int socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  const uint32_t silence_ms = std::min(info.tcpi_last_ack_recv, info.tcpi_last_data_recv);
  if (silence_ms < kSuspicious_ms) return false;
  if (info.tcpi_unacked == 0) {
    // The kernel's own pause has no fraction of a second; but told it anew, it probes at once.
    (void)set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdle_s, "TCP_KEEPIDLE");
  }
  return silence_ms >= kSilence_ms &&
         (info.tcpi_retransmits >= kLeastRetransmissions || info.tcpi_probes >= kLeastProbes);
}

void reset_on_close(int socket) {
  const linger none{1, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

Status send_all(int socket, std::span<const std::byte> bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      return fail(ErrorCode::kUnreachable, "the connection was lost while sending: {}",
                  std::error_code(errno, std::generic_category()).message());
    }
    pollfd writable{socket, POLLOUT, 0};
    SHOAL_ASSIGN(const bool ready, wait_for({&writable, 1}, deadline));
    if (!ready)
      return fail(ErrorCode::kDeadline, "the peer did not take {} bytes in time", bytes.size());
  }
  return {};
}

}  // namespace shoal
