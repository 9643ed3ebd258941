#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "transport/framed_link.h"
#include "transport/shm.h"
#include "transport/shm_segment.h"
#include "transport/socket.h"

namespace shoal {
namespace {

// Published piece by piece, so that the two ends of a long frame copy at the same time.
constexpr size_t kPieceBytes = 32 << 10;

// Flags and indices are sequentially consistent: a side that says "I sleep" and then finds nothing,
// and one that moves something and then finds nobody asleep, cannot both be right.
class ShmStream final : public ByteStream {
 public:
  ShmStream(ShmSegment segment, UniqueFd socket, bool first, std::string peer)
      : ByteStream(std::move(socket), std::move(peer)),
        segment_(std::move(segment)),
        me_(first ? 0 : 1),
        out_(segment_.head().rings[me_]),
        in_(segment_.head().rings[1 - me_]),
        out_bytes_(segment_.ring(me_)),
        in_bytes_(segment_.ring(1 - me_)) {}
  ~ShmStream() override {
    segment_.head().states[me_] =
        static_cast<uint32_t>(failed_ ? ShmState::kFailed : ShmState::kEnded);
  }

  Result<size_t> write(std::span<const std::byte> head, std::span<const std::byte> body) override;
  Result<size_t> read(std::span<std::byte> head, std::span<std::byte> body) override;
  Result<bool> flush() override { return true; }
  bool flushed() const override { return true; }
  void reset() override { failed_ = true; }
  Link::Interest interest(bool reading, bool writing) const override;
  bool before_sleep(bool reading, bool writing) override;
  void after_sleep() override;
  Status check_peer() override { return {}; }  // a dead one has closed its socket

 private:
  Result<size_t> room();       // that may be written now
  Result<size_t> available();  // that may be read now
  void wake(std::atomic<uint32_t>& sleeper) const;
  std::unexpected<Error> gone() const;
  std::unexpected<Error> impossible(std::string_view what, uint64_t theirs, uint64_t ours) const;

  ShmSegment segment_;
  size_t me_;
  ShmRing& out_;
  ShmRing& in_;
  std::span<std::byte> out_bytes_;
  std::span<std::byte> in_bytes_;
  // Ours are kept here and only told to the segment; the peer's are taken from it and checked.
  uint64_t written_ = 0;
  uint64_t read_by_peer_ = 0;
  uint64_t read_ = 0;
  uint64_t written_by_peer_ = 0;
  bool peer_gone_ = false;
  bool failed_ = false;
};

std::unexpected<Error> ShmStream::impossible(std::string_view what, uint64_t theirs,
                                             uint64_t ours) const {
  return fail(ErrorCode::kCorrupt,
              "{} says that it has {} {} bytes of shared memory, which cannot be after {} with "
              "rings of {}: its memory is damaged",
              peer(), what, theirs, ours, out_bytes_.size());
}

std::unexpected<Error> ShmStream::gone() const {
  const auto state = segment_.head().states[1 - me_].load();
  if (state == static_cast<uint32_t>(ShmState::kFailed)) {
    return fail(ErrorCode::kUnreachable,
                "{} reset its link: it has failed, or has given up on another rank", peer());
  }
  return closed_by_peer();
}

Result<size_t> ShmStream::room() {
  if (written_ - read_by_peer_ == out_bytes_.size()) {
    const uint64_t read = out_.read.load();
    if (read - read_by_peer_ > written_ - read_by_peer_) return impossible("read", read, written_);
    read_by_peer_ = read;
  }
  return out_bytes_.size() - (written_ - read_by_peer_);
}

Result<size_t> ShmStream::available() {
  if (written_by_peer_ == read_) {
    const uint64_t written = in_.written.load();
    if (written - read_ > in_bytes_.size()) return impossible("written", written, read_);
    written_by_peer_ = written;
  }
  return written_by_peer_ - read_;
}

void ShmStream::wake(std::atomic<uint32_t>& sleeper) const {
  if (sleeper.load() == 0 || sleeper.exchange(0) == 0) return;
  // Where there is no room for the byte there are others to wake by; a peer that is gone is noticed
  // by who waits for it.
  (void)::send(descriptor(), "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

Result<size_t> ShmStream::write(std::span<const std::byte> head, std::span<const std::byte> body) {
  if (peer_gone_) return gone();
  size_t taken = 0;
  size_t unpublished = 0;
  const auto publish = [&] {
    if (unpublished == 0) return;
    out_.written = written_;
    unpublished = 0;
    wake(out_.reader_asleep);
  };
  for (std::span<const std::byte> part : {head, body}) {
    while (!part.empty()) {
      auto free = room();
      if (!free) return std::unexpected(std::move(free).error());
      if (*free == 0) {
        publish();
        return taken;
      }
      const size_t at = written_ & (out_bytes_.size() - 1);
      const size_t count =
          std::min({part.size(), *free, out_bytes_.size() - at, kPieceBytes - unpublished});
      std::memcpy(out_bytes_.data() + at, part.data(), count);
      part = part.subspan(count);
      written_ += count;
      taken += count;
      unpublished += count;
      if (unpublished == kPieceBytes) publish();
    }
  }
  publish();
  return taken;
}

Result<size_t> ShmStream::read(std::span<std::byte> head, std::span<std::byte> body) {
  size_t taken = 0;
  size_t unpublished = 0;
  const auto publish = [&] {
    if (unpublished == 0) return;
    in_.read = read_;
    unpublished = 0;
    wake(in_.writer_asleep);
  };
  for (std::span<std::byte> part : {head, body}) {
    while (!part.empty()) {
      auto there = available();
      if (!there) return std::unexpected(std::move(there).error());
      if (*there == 0) {
        publish();
        // The peer was gone before this look, so nothing can follow.
        if (taken == 0 && peer_gone_) return gone();
        return taken;
      }
      const size_t at = read_ & (in_bytes_.size() - 1);
      const size_t count =
          std::min({part.size(), *there, in_bytes_.size() - at, kPieceBytes - unpublished});
      std::memcpy(part.data(), in_bytes_.data() + at, count);
      part = part.subspan(count);
      read_ += count;
      taken += count;
      unpublished += count;
      if (unpublished == kPieceBytes) publish();
    }
  }
  publish();
  return taken;
}

// Everything that may happen while this side sleeps makes the socket readable. A peer that ended in
// order after its part is done would do so for ever.
Link::Interest ShmStream::interest(bool reading, bool writing) const {
  const bool ended =
      segment_.head().states[1 - me_].load() == static_cast<uint32_t>(ShmState::kEnded);
  if (!reading && !writing && ended) return {-1, false, false};
  return {descriptor(), reading || writing, false};
}

bool ShmStream::before_sleep(bool reading, bool writing) {
  if (reading) in_.reader_asleep = 1;
  if (writing) out_.writer_asleep = 1;
  return !(reading && in_.written.load() != read_) &&
         !(writing && written_ - out_.read.load() != out_bytes_.size());
}

void ShmStream::after_sleep() {
  in_.reader_asleep = 0;
  out_.writer_asleep = 0;
  std::array<std::byte, 64> wakes;
  while (!peer_gone_) {
    const ssize_t got = ::recv(descriptor(), wakes.data(), wakes.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got <= 0) peer_gone_ = true;
    if (got < static_cast<ssize_t>(wakes.size())) return;
  }
}

}  // namespace

Result<std::pair<ShmEnd, ShmEnd>> make_shm_pair(size_t ring_bytes) {
  ShmEnd first{.memory = UniqueFd(::memfd_create("shoal link", MFD_CLOEXEC | MFD_ALLOW_SEALING)),
               .socket = {},
               .first = true};
  if (!first.memory) return system_error("cannot make", "the memory of a link");
  SHOAL_TRY(ShmSegment::format(first.memory.get(), ring_bytes));
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) != 0) {
    return system_error("cannot make", "the sockets of a link");
  }
  first.socket = UniqueFd(sockets[0]);
  ShmEnd second{.memory = UniqueFd(::fcntl(first.memory.get(), F_DUPFD_CLOEXEC, 0)),
                .socket = UniqueFd(sockets[1]),
                .first = false};
  if (!second.memory) return system_error("cannot duplicate", "the memory of a link");
  return std::pair(std::move(first), std::move(second));
}

Result<std::unique_ptr<Link>> make_shm_link(ShmEnd end, std::string peer) {
  SHOAL_TRY(set_nonblocking(end.socket.get()));
  auto segment = ShmSegment::map(end.memory.get());
  if (!segment) return std::unexpected(segment.error().within(peer));
  return make_framed_link(std::make_unique<ShmStream>(std::move(*segment), std::move(end.socket),
                                                      end.first, std::move(peer)));
}

Result<ShmLinks> connected_shm_pair(std::string peer_of_first, std::string peer_of_second,
                                    size_t ring_bytes) {
  SHOAL_ASSIGN(auto ends, make_shm_pair(ring_bytes));
  ShmLinks links;
  SHOAL_ASSIGN(links.first, make_shm_link(std::move(ends.first), std::move(peer_of_first)));
  SHOAL_ASSIGN(links.second, make_shm_link(std::move(ends.second), std::move(peer_of_second)));
  return links;
}

}  // namespace shoal
