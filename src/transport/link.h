// Link: ordered frames to one peer, with deadlines and liveness. Used by one thread at a time (the
// one that computes); no system call but send and receive after a frame's first byte, no allocation
// once buffers have grown. Any failure is final for the link: the stream's state is unknown, so
// every later call fails with the same error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"

namespace shoal {

// Of everything in docs/formats/wire.md; a digit in every greeting.
inline constexpr int kWireVersion = 2;

struct LinkCounters {
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint64_t wait_ns = 0;  // spent in calls
  uint64_t calls = 0;
};

enum class LinkMode { kTls, kPlain };
std::string_view link_mode_name(LinkMode mode);  // "tls", "plain"
Result<LinkMode> link_mode_named(std::string_view name);

class Link {
 public:
  virtual ~Link() = default;
  virtual std::string peer() const = 0;  // for errors: "rank 1 at 10.0.0.2:7466"

  // kDeadline or kUnreachable, naming the peer.
  Status send(std::span<const std::byte> frame, Deadline deadline);
  // The next frame, whatever its size up to kLargestFrame; `frame` is resized.
  Status receive(Bytes& frame, Deadline deadline);
  // Sends one frame while receiving one of exactly in.size() bytes; never deadlocks, however large
  // both are.
  Status exchange(std::span<const std::byte> out, std::span<std::byte> in, Deadline deadline);

  const LinkCounters& counters() const { return counters_; }
  static constexpr uint64_t kLargestFrame = 1ull << 30;

  // The halves of the above, for a caller that drives several links at once: begin what is wanted,
  // then complete(). At most one frame is under way in each direction; the memory stays the
  // caller's and in place until advance() says done.
  virtual Status begin_send(std::span<const std::byte> frame) = 0;
  virtual Status begin_receive(Bytes& frame) = 0;
  virtual Status begin_receive_exactly(std::span<std::byte> frame) = 0;
  struct Progress {
    bool done;   // nothing is under way any more
    bool moved;  // bytes went in or out during this call
  };
  virtual Result<Progress> advance() = 0;  // never blocks
  // Whether a begun frame has not left, or not come in, as a whole.
  virtual bool sending() const = 0;
  virtual bool receiving() const = 0;
  struct Interest {
    int descriptor;  // -1: none
    bool to_read;
    bool to_write;
    Deadline wake_at = kNoDeadline;  // advance() has something to do then, whatever comes
  };
  virtual Interest interest() const = 0;  // what advance() waits for
  // Around a sleep on interest(), for links whose peer must know that it has to wake this side.
  // False from the first: something came meanwhile, call advance() instead.
  virtual bool before_sleep() { return true; }
  virtual void after_sleep() {}
  // Called now and then during a long wait. An error, which ends the link: the peer is known to be
  // out of reach though nothing said so.
  virtual Status check_peer() { return {}; }
  // End the link at once, each with its own sentence: a deadline passed; poll() found the
  // connection reset; the caller gives up, for whatever reason. The peer is told by a reset, which
  // it notices even where it expects nothing from this side. Destroying a link instead is an
  // orderly end.
  virtual std::unexpected<Error> overdue() = 0;
  virtual std::unexpected<Error> reset_by_peer() = 0;
  virtual void abandon(Error why) = 0;
  void count_wait(uint64_t elapsed_ns) {
    counters_.wait_ns += elapsed_ns;
    ++counters_.calls;
  }

 protected:
  LinkCounters counters_;

 private:
  Status finish(Deadline deadline);
};

// Drives up to 64 links until everything begun on them is done: spins for about 50 us after the
// last byte, then polls. A link on which nothing is under way is watched for a reset. The first
// failure is returned; the other links are left where they are.
Status complete(std::span<Link* const> links, Deadline deadline);

// The same for a caller that keeps more under way than it waits for: `turn` is asked after every
// round of advance() and may begin more. False: the deadline passed; no link was ended for it, the
// caller knows who is late.
enum class Turn { kEnough, kBegan, kNothing };
Result<bool> drive(std::span<Link* const> links, const std::function<Result<Turn>()>& turn,
                   Deadline deadline);

// Two ends of one TCP connection over loopback, for ranks that share a process (benchmarks, tests).
Result<std::pair<UniqueFd, UniqueFd>> connected_tcp_pair();

// A connected TCP socket as a link. `key` is the pre-shared key of this pair of ranks (32 bytes),
// unused by kPlain. The side that dialled is the TLS client. Performs the TLS 1.3 external-PSK
// handshake (RFC 8446 section 4.2.11) before it returns. A peer without the key fails with
// kPermission.
Result<std::unique_ptr<Link>> make_tcp_link(UniqueFd socket, LinkMode mode, bool dialled,
                                            std::span<const std::byte> key, std::string peer,
                                            Deadline deadline);

// Connects to "host:port" (or "[v6]:port"). kUnreachable, kDeadline.
Result<UniqueFd> dial_tcp(const std::string& address, Deadline deadline);

// What a dialling worker writes first on the node port, in clear, so that the daemon can pass the
// socket to the right worker. 64 bytes: magic "SHOALDL", the version as a digit, instance id (16),
// generation counter (8, little endian), from_rank (2), to_rank (2), zeros.
struct LinkPreamble {
  std::array<std::byte, 16> instance{};
  uint64_t generation = 0;
  uint16_t from_rank = 0;
  uint16_t to_rank = 0;
};
inline constexpr size_t kPreambleBytes = 64;
inline constexpr std::string_view kPreambleMagic = "SHOALDL";  // of every version
std::array<std::byte, kPreambleBytes> encode(const LinkPreamble& preamble);
Result<LinkPreamble> decode_preamble(std::span<const std::byte> bytes);  // kCorrupt, kUnsupported
Status send_all(int socket, std::span<const std::byte> bytes, Deadline deadline);

}  // namespace shoal
