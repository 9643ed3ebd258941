#include "transport/framed_link.h"

#include <algorithm>
#include <optional>

#include "transport/crc32c.h"
#include "transport/frame_length.h"

namespace shoal {
namespace {

// Two numbers, little endian: the payload's length, and where the stream does not find damage
// itself the CRC-32C of that length and the payload; else zero.
constexpr size_t kNumberBytes = 4;
constexpr size_t kHeaderBytes = 2 * kNumberBytes;

using Header = std::array<std::byte, kHeaderBytes>;

void put(std::span<std::byte> to, uint64_t number) {
  for (size_t i = 0; i < kNumberBytes; ++i) to[i] = static_cast<std::byte>(number >> (8 * i));
}

uint32_t get(std::span<const std::byte> from) {
  uint32_t number = 0;
  for (size_t i = 0; i < kNumberBytes; ++i) number |= std::to_integer<uint32_t>(from[i]) << (8 * i);
  return number;
}

std::span<const std::byte> length_of(const Header& header) {
  return std::span(header).first(kNumberBytes);
}
std::span<const std::byte> checksum_of(const Header& header) {
  return std::span(header).subspan(kNumberBytes);
}

template <typename T>
std::span<T> rest(std::span<T> all, size_t done) {
  return all.subspan(std::min(done, all.size()));
}

class FramedLink final : public Link {
 public:
  explicit FramedLink(std::unique_ptr<ByteStream> stream)
      : stream_(std::move(stream)), peer_(stream_->peer()), checks_(stream_->wants_checksums()) {}

  std::string peer() const override { return peer_; }

  Status begin_send(std::span<const std::byte> frame) override;
  Status begin_receive(Bytes& frame) override;
  Status begin_receive_exactly(std::span<std::byte> frame) override;
  Result<Progress> advance() override;
  bool sending() const override { return out_.active; }
  bool receiving() const override { return in_.active; }
  Interest interest() const override;
  bool before_sleep() override {
    return !stream_ || stream_->before_sleep(in_.active, out_.active);
  }
  void after_sleep() override {
    if (stream_) stream_->after_sleep();
  }
  Status check_peer() override;
  std::unexpected<Error> overdue() override;
  std::unexpected<Error> reset_by_peer() override;
  void abandon(Error why) override {
    if (!error_) (void)end_with(std::move(why));
  }

 private:
  struct Outgoing {
    bool active = false;
    Header header;
    std::span<const std::byte> payload;
    size_t done = 0;  // of header and payload together
    size_t total() const { return kHeaderBytes + payload.size(); }
  };
  struct Incoming {
    bool active = false;
    Header header;
    std::span<std::byte> payload;  // what there is room for
    Bytes* growing = nullptr;      // when the length is the sender's choice
    uint64_t length = 0;           // known once the header is
    uint32_t checksum = 0;         // of what has come of length and payload
    size_t done = 0;
  };

  Status check_idle(bool busy) const;
  std::unexpected<Error> end_with(Error error);
  Result<bool> advance_sending();
  Result<bool> advance_receiving();
  Status take_header();
  Status check_frame() const;
  void make_room();

  std::unique_ptr<ByteStream> stream_;  // empty once the link has failed
  std::string peer_;
  bool checks_;
  std::optional<Error> error_;
  Outgoing out_;
  Incoming in_;
};

// Resetting at once tells the peer, so that a failure seen by one rank ends the wait of the others.
std::unexpected<Error> FramedLink::end_with(Error error) {
  stream_->reset();
  stream_.reset();
  out_.active = in_.active = false;
  error_ = std::move(error);
  return std::unexpected(*error_);
}

Status FramedLink::check_idle(bool busy) const {
  if (error_) return std::unexpected(*error_);
  SHOAL_CHECK(!busy);
  return {};
}

Status FramedLink::begin_send(std::span<const std::byte> frame) {
  SHOAL_TRY(check_idle(out_.active));
  SHOAL_TRY(check_sent_length(peer_, frame.size()));
  out_ = {true, {}, frame, 0};
  put(out_.header, frame.size());
  const uint32_t checksum = checks_ ? crc32c(crc32c(0, length_of(out_.header)), frame) : 0;
  put(std::span(out_.header).subspan(kNumberBytes), checksum);
  return {};
}

Status FramedLink::begin_receive(Bytes& frame) {
  SHOAL_TRY(check_idle(in_.active));
  frame.clear();
  in_ = {};
  in_.active = true;
  in_.growing = &frame;
  return {};
}

Status FramedLink::begin_receive_exactly(std::span<std::byte> frame) {
  SHOAL_TRY(check_idle(in_.active));
  in_ = {};
  in_.active = true;
  in_.payload = frame;
  return {};
}

Result<Link::Progress> FramedLink::advance() {
  if (error_) return std::unexpected(*error_);
  Progress progress{false, false};
  if (out_.active) {
    auto moved = advance_sending();
    if (!moved) return end_with(std::move(moved).error());
    progress.moved |= *moved;
  }
  if (in_.active) {
    // What TLS itself answers (a new key) leaves without waiting for our next frame.
    if (auto pushed = stream_->flush(); !pushed) return end_with(std::move(pushed).error());
    auto moved = advance_receiving();
    if (!moved) return end_with(std::move(moved).error());
    progress.moved |= *moved;
  }
  progress.done = !out_.active && !in_.active;
  return progress;
}

Result<bool> FramedLink::advance_sending() {
  bool moved = false;
  if (out_.done < out_.total()) {
    const std::span<const std::byte> header(out_.header);
    const size_t in_payload = out_.done > kHeaderBytes ? out_.done - kHeaderBytes : 0;
    SHOAL_ASSIGN(const size_t sent,
                 stream_->write(rest(header, out_.done), rest(out_.payload, in_payload)));
    out_.done += sent;
    counters_.bytes_sent += sent;
    moved = sent > 0;
  }
  if (out_.done == out_.total()) {
    SHOAL_ASSIGN(const bool flushed, stream_->flush());
    if (flushed) out_.active = false;
  }
  return moved;
}

Result<bool> FramedLink::advance_receiving() {
  const bool header_known = in_.done >= kHeaderBytes;
  const size_t in_payload = header_known ? in_.done - kHeaderBytes : 0;
  const std::span<std::byte> header(in_.header);
  SHOAL_ASSIGN(const size_t got,
               stream_->read(rest(header, in_.done), rest(in_.payload, in_payload)));
  in_.done += got;
  counters_.bytes_received += got;
  if (in_.done < kHeaderBytes) return got > 0;
  if (!header_known) SHOAL_TRY(take_header());
  if (checks_) {
    const auto fresh = in_.payload.subspan(in_payload, in_.done - kHeaderBytes - in_payload);
    in_.checksum = crc32c(in_.checksum, fresh);
  }
  if (in_.done == kHeaderBytes + in_.length) {
    SHOAL_TRY(check_frame());
    in_.active = false;
  } else if (in_.done == kHeaderBytes + in_.payload.size()) {
    make_room();
  }
  return got > 0;
}

Status FramedLink::take_header() {
  in_.length = get(length_of(in_.header));
  if (checks_) in_.checksum = crc32c(0, length_of(in_.header));
  const auto due =
      in_.growing != nullptr ? std::nullopt : std::optional<uint64_t>(in_.payload.size());
  return check_announced_length(peer_, in_.length, due);
}

Status FramedLink::check_frame() const {
  const uint32_t told = get(checksum_of(in_.header));
  if (told == in_.checksum) return {};
  return fail(ErrorCode::kCorrupt,
              "a frame of {} bytes from {} arrived damaged: its checksum is {:08x}, not {:08x} as "
              "sent; the network or a machine's memory is at fault",
              in_.length, peer_, in_.checksum, told);
}

// Only for a growing frame whose room is full and whose length is larger.
void FramedLink::make_room() {
  const size_t size = in_.payload.size();
  in_.growing->resize(next_room(in_.length, size, 0));
  in_.payload = *in_.growing;
}

Link::Interest FramedLink::interest() const {
  if (!stream_) return {-1, false, false};
  return stream_->interest(in_.active, out_.active);
}

Status FramedLink::check_peer() {
  if (error_) return std::unexpected(*error_);
  if (auto alive = stream_->check_peer(); !alive) return end_with(std::move(alive).error());
  return {};
}

std::unexpected<Error> FramedLink::overdue() {
  if (error_) return std::unexpected(*error_);
  std::string missing;
  if (in_.active) {
    missing = in_.done >= kHeaderBytes
                  ? fmt::format("{} of {} bytes received", in_.done - kHeaderBytes, in_.length)
                  : "nothing received";
  }
  if (out_.active) {
    missing +=
        fmt::format("{}{} of {} bytes sent", missing.empty() ? "" : ", ", out_.done, out_.total());
  }
  return end_with({ErrorCode::kDeadline,
                   fmt::format("{} did not answer in time ({}): it may be stopped, overloaded or "
                               "cut off",
                               peer_, missing)});
}

std::unexpected<Error> FramedLink::reset_by_peer() {
  if (error_) return std::unexpected(*error_);
  return end_with(
      {ErrorCode::kUnreachable,
       fmt::format("{} reset its link: it has failed, or has given up on another rank", peer_)});
}

}  // namespace

std::unique_ptr<Link> make_framed_link(std::unique_ptr<ByteStream> stream) {
  return std::make_unique<FramedLink>(std::move(stream));
}

}  // namespace shoal
