// ByteStream: the bytes under a link's frames, plain or encrypted. Private to this module. Owns the
// socket, which it makes non-blocking; no call but the makers' ever blocks. Used by the link's one
// thread. Errors name the peer and are final.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "transport/link.h"

namespace shoal {

class ByteStream {
 public:
  ByteStream(UniqueFd socket, std::string peer)
      : socket_(std::move(socket)), peer_(std::move(peer)) {}
  virtual ~ByteStream() = default;
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;

  // Takes bytes of `head`, then of `body`, in one segment where they fit; how many, 0 when there is
  // no room now.
  virtual Result<size_t> write(std::span<const std::byte> head,
                               std::span<const std::byte> body) = 0;
  // Fills `head`, then `body`, and reads not a byte more; how many, 0 when there is nothing now.
  virtual Result<size_t> read(std::span<std::byte> head, std::span<std::byte> body) = 0;
  // Pushes what write() took and the socket did not; true when nothing is left.
  virtual Result<bool> flush() = 0;
  virtual bool flushed() const = 0;

  // For Link's calls of the same names: what to wait for when bytes are awaited or room is.
  virtual Link::Interest interest(bool reading, bool writing) const {
    return {descriptor(), reading, writing || (reading && !flushed())};
  }
  virtual bool before_sleep(bool /*reading*/, bool /*writing*/) { return true; }
  virtual void after_sleep() {}
  virtual Status check_peer();
  // The end that follows is a failure's: the peer shall notice at once.
  virtual void reset();
  // Nothing below finds damaged bytes: frames carry a checksum of their own.
  virtual bool wants_checksums() const { return false; }

  int descriptor() const { return socket_.get(); }
  const std::string& peer() const { return peer_; }

 protected:
  // One non-blocking system call each. 0: would block. Never raises SIGPIPE.
  Result<size_t> send_now(std::span<const std::byte> head, std::span<const std::byte> body);
  Result<size_t> receive_now(std::span<std::byte> head, std::span<std::byte> body);
  std::unexpected<Error> closed_by_peer() const;
  std::unexpected<Error> lost(int error_number) const;

 private:
  UniqueFd socket_;
  std::string peer_;
  bool doubted_ = false;
};

// Sends `magic` (7 bytes) and the version of the wire, and expects the same of the peer. kCorrupt
// for other bytes, kUnsupported with both versions for another version.
Status greet(ByteStream& stream, std::string_view magic, Deadline deadline);

// Both greet the peer before they return, so that two ends of different modes or versions find out
// at once.
Result<std::unique_ptr<ByteStream>> make_plain_stream(UniqueFd socket, std::string peer,
                                                      Deadline deadline);
// `records_per_key`: after so many records sent, the sending key is replaced (RFC 8446 section 5.5
// allows 2^24.5 with AES-GCM).
Result<std::unique_ptr<ByteStream>> make_tls_stream(UniqueFd socket, bool dialled,
                                                    std::span<const std::byte> key,
                                                    std::string peer, Deadline deadline,
                                                    uint64_t records_per_key = 1 << 22);

}  // namespace shoal
