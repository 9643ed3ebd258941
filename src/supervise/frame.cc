#include "supervise/frame.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace shoal {
namespace {

// The kernel passes at most 253 descriptors with a message; room for them all, so that none is cut
// off unseen.
constexpr size_t kMostDescriptors = 253;

// Takes what came with a message. False when there was more than one descriptor, or one that nobody
// expects.
bool take_descriptors(msghdr& message, UniqueFd& descriptor) {
  bool expected = (message.msg_flags & MSG_CTRUNC) == 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(part) + i * sizeof(int), sizeof number);
      UniqueFd received(number);
      if (descriptor) {
        expected = false;
      } else {
        descriptor = std::move(received);
      }
    }
  }
  return expected;
}

}  // namespace

Result<std::string> encode_frame(std::string_view text) {
  if (text.size() > kLargestWorkerFrame) {
    return fail(ErrorCode::kTooLarge, "a message of {} bytes is over the limit of {}", text.size(),
                kLargestWorkerFrame);
  }
  std::string frame;
  frame.reserve(kFrameHeaderBytes + text.size());
  for (size_t i = 0; i < kFrameHeaderBytes; ++i) {
    frame += static_cast<char>((text.size() >> (8 * i)) & 255);
  }
  frame += text;
  return frame;
}

uint64_t decode_frame_length(std::string_view header) {
  uint64_t length = 0;
  for (size_t i = 0; i < kFrameHeaderBytes; ++i) {
    length |= uint64_t{static_cast<unsigned char>(header[i])} << (8 * i);
  }
  return length;
}

ssize_t send_some(int socket, std::string_view bytes, int descriptor) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

ssize_t receive_some(int socket, char* to, size_t size, UniqueFd& descriptor) {
  iovec part{to, size};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostDescriptors * sizeof(int))> control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = -1;
  do {
    got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 || take_descriptors(message, descriptor)) return got;
  errno = EPROTO;
  return -1;
}

}  // namespace shoal
