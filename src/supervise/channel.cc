#include "supervise/channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "supervise/frame.h"

namespace shoal {
namespace {

// A buffer grows by at most this ahead of what has arrived.
constexpr size_t kGrowthBytes = 1 << 20;

std::unexpected<Error> daemon_gone() {
  return fail(ErrorCode::kUnreachable, "the daemon has gone");
}

// False: the deadline passed.
Result<bool> wait_for(int socket, short events, Deadline deadline) {
  pollfd ready{socket, events, 0};
  while (true) {
    int timeout_ms = -1;
    if (deadline != kNoDeadline) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      timeout_ms = static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1'000'000'000));
    }
    const int count = ::poll(&ready, 1, timeout_ms);
    if (count > 0) return true;
    if (count == 0) return false;
    if (errno != EINTR) return system_error("cannot wait for", "the daemon's channel");
  }
}

}  // namespace

Status Channel::send_text(const std::string& text, int descriptor) {
  SHOAL_ASSIGN(const std::string frame, encode_frame(text));
  const std::lock_guard lock(sending_);
  std::string_view left = frame;
  while (!left.empty()) {
    const ssize_t sent = send_some(socket_.get(), left, descriptor);
    if (sent >= 0) {
      left.remove_prefix(static_cast<size_t>(sent));
      descriptor = -1;
    } else if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) {
      return daemon_gone();
    } else if (errno == EAGAIN) {
      SHOAL_TRY(wait_for(socket_.get(), POLLOUT, kNoDeadline));
    } else {
      return system_error("cannot write to", "the daemon's channel");
    }
  }
  return {};
}

// Until `buffer` holds `size` bytes. What came stays in it when the deadline passes.
Status Channel::fill(std::string& buffer, size_t size, Deadline deadline) {
  while (buffer.size() < size) {
    const size_t before = buffer.size();
    buffer.resize(std::min(size, before + kGrowthBytes));
    const ssize_t got =
        receive_some(socket_.get(), buffer.data() + before, buffer.size() - before, passed_);
    const int number = errno;
    buffer.resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got > 0) continue;
    errno = number;
    if (got == 0 || errno == ECONNRESET) return daemon_gone();
    if (errno == EPROTO) {
      return fail(ErrorCode::kCorrupt, "the daemon passed more than one descriptor with a message");
    }
    if (errno != EAGAIN) return system_error("cannot read from", "the daemon's channel");
    SHOAL_ASSIGN(const bool ready, wait_for(socket_.get(), POLLIN, deadline));
    if (!ready) return fail(ErrorCode::kDeadline, "nothing came from the daemon in time");
  }
  return {};
}

Result<ChannelFrame> Channel::receive(Deadline deadline) {
  SHOAL_TRY(fill(header_, kFrameHeaderBytes, deadline));
  const uint64_t length = decode_frame_length(header_);
  if (length > kLargestWorkerFrame) {
    return fail(ErrorCode::kCorrupt,
                "the daemon announced a message of {} bytes, over the limit of {}", length,
                kLargestWorkerFrame);
  }
  SHOAL_TRY(fill(payload_, length, deadline));
  const std::string text = std::exchange(payload_, {});
  header_.clear();
  UniqueFd descriptor = std::move(passed_);
  auto json = parse_ordered_json(text);
  if (!json) {
    return fail(ErrorCode::kCorrupt, "a message of the daemon is {}", json.error().message);
  }
  return ChannelFrame{std::move(*json), std::move(descriptor)};
}

Result<std::pair<UniqueFd, UniqueFd>> make_channel_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return system_error("cannot make", "a socket pair");
  }
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

}  // namespace shoal
