// Any bytes as what another rank sends: a preamble, a greeting and frames over a socket, the
// contents and indices of shared memory. The first byte chooses. Besides the sanitizers it checks
// what must hold of everything that is accepted.
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>

#include "transport/crc32c.h"
#include "transport/emulated.h"
#include "transport/framed_link.h"
#include "transport/shm.h"
#include "transport/shm_segment.h"

namespace {

using namespace shoal;

void must(bool condition) {
  if (!condition) std::abort();
}

template <typename T>
T must(Result<T> result) {
  must(result.has_value());
  return std::move(*result);
}

// What a link's receiving half may do with memory: room grows from a first MiB with what arrives.
constexpr size_t kMostRoom = 4 << 20;
constexpr size_t kMostInput = 64 << 10;

void preamble(std::span<const std::byte> input) {
  const auto decoded = decode_preamble(input);
  if (!decoded) return;
  must(std::ranges::equal(encode(*decoded), input));
}

// Receives until the link ends, by turns whatever comes and frames of an exact length.
void take_frames(Link& link, size_t exact_bytes) {
  Bytes any;
  Bytes exact(exact_bytes);
  for (int frame = 0; frame < 1000; ++frame) {
    if (!(frame % 4 == 3 ? link.begin_receive_exactly(exact) : link.begin_receive(any))) return;
    bool done = false;
    for (int look = 0; look < 200 && !done; ++look) {
      const auto progress = link.advance();
      must(any.capacity() <= kMostRoom);
      if (!progress) {
        // A failure is final and says the same again.
        must(link.advance().error().message == progress.error().message);
        return;
      }
      done = progress->done;
      if (!done && !progress->moved) break;
    }
    if (done) continue;
    const auto late = link.overdue();
    must(!late.error().message.empty());
    return;
  }
}

// `greeted`: our harness says the right greeting first, so that frames are reached.
void stream(std::span<const std::byte> input, bool greeted) {
  int sockets[2];
  must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets) == 0);
  UniqueFd ours(sockets[0]);
  UniqueFd theirs(sockets[1]);
  if (greeted) must(::send(theirs.get(), "SHOALPL2", 8, MSG_NOSIGNAL) == 8);
  input = input.first(std::min(input.size(), kMostInput));
  const ssize_t sent = ::send(theirs.get(), input.data(), input.size(), MSG_NOSIGNAL);
  must(sent == static_cast<ssize_t>(input.size()));
  must(::shutdown(theirs.get(), SHUT_WR) == 0);
  auto made = make_plain_stream(std::move(ours), "a peer", Clock::now() + std::chrono::seconds(1));
  if (!made) return;
  const auto link = make_framed_link(std::move(*made));
  take_frames(*link, input.empty() ? 0 : std::to_integer<size_t>(input.front()));
}

// The frames that the bytes describe (a length, then so many), with good checksums.
void checked_stream(std::span<const std::byte> input) {
  Bytes wire;
  while (input.size() > 1) {
    const size_t size = std::min(std::to_integer<size_t>(input.front()), input.size() - 1);
    const auto payload = input.subspan(1, size);
    Bytes header(4);
    header[0] = static_cast<std::byte>(size);
    const uint32_t sum = crc32c(crc32c(0, header), payload);
    for (size_t i = 0; i < 4; ++i) header.push_back(static_cast<std::byte>(sum >> (8 * i)));
    wire.insert(wire.end(), header.begin(), header.end());
    wire.insert(wire.end(), payload.begin(), payload.end());
    input = input.subspan(1 + size);
  }
  stream(wire, true);
}

// A peer that writes into the segment what it likes, between what this side does.
void shared_memory(std::span<const std::byte> input, bool emulated) {
  auto ends = must(make_shm_pair(kSmallestShmRing));
  const ShmSegment theirs = must(ShmSegment::map(ends.second.memory.get()));
  auto link = must(make_shm_link(std::move(ends.first), "a peer"));
  if (emulated) link = make_emulated_link(std::move(link), must(parse_link_model("0,1000")));
  ShmRing& to_us = theirs.head().rings[1];
  ShmRing& from_us = theirs.head().rings[0];
  const Bytes out(3000, std::byte{7});
  Bytes in;
  const auto take = [&](size_t count) {
    const auto taken = input.first(std::min(count, input.size()));
    input = input.subspan(taken.size());
    uint64_t number = 0;
    for (size_t i = 0; i < taken.size(); ++i)
      number |= std::to_integer<uint64_t>(taken[i]) << (8 * (i % 8));
    return number;
  };
  bool sending = false;
  bool receiving = false;
  while (!input.empty()) {
    switch (take(1) % 8) {
      case 0: {  // bytes, as an honest peer would add them
        const size_t count = std::min<size_t>(take(1), input.size());
        const uint64_t written = to_us.written;
        for (size_t i = 0; i < count; ++i)
          theirs.ring(1)[(written + i) % kSmallestShmRing] = input[i];
        input = input.subspan(count);
        to_us.written = written + count;
        break;
      }
      case 1:
        to_us.written = take(8);
        break;
      case 2:
        from_us.read = take(8);
        break;
      case 3:
        from_us.read = from_us.written.load();
        break;
      case 4:
        theirs.head().states[1] = static_cast<uint32_t>(take(4));
        from_us.reader_asleep = static_cast<uint32_t>(take(1));
        break;
      case 5:
        if (!sending && !link->begin_send(out)) return;
        sending = true;
        break;
      case 6:
        if (!receiving && !link->begin_receive(in)) return;
        receiving = true;
        break;
      default:
        if (link->before_sleep()) (void)link->interest();
        link->after_sleep();
    }
    const auto progress = link->advance();
    must(in.capacity() <= kMostRoom);
    if (!progress) return;
    if (progress->done) sending = receiving = false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  const auto rest = input.subspan(1);
  switch (std::to_integer<int>(input.front()) % 6) {
    case 0:
      preamble(rest);
      break;
    case 1:
      stream(rest, false);
      break;
    case 2:
      stream(rest, true);
      break;
    case 3:
      checked_stream(rest);
      break;
    case 4:
      shared_memory(rest, false);
      break;
    default:
      shared_memory(rest, true);
  }
  return 0;
}
