// Channel: the worker's end of the socket pair to its daemon. send() from any thread; receive()
// from one thread at a time.
#pragma once

#include <concepts>
#include <mutex>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/result.h"

namespace shoal {

// Where a worker finds its channel.
inline constexpr int kChannelDescriptor = 3;

struct ChannelFrame {
  OrderedJson json;  // in the sender's order: messages and tools reach a prompt
  UniqueFd descriptor;
};

class Channel {
 public:
  explicit Channel(UniqueFd socket) : socket_(std::move(socket)) {}

  // Waits for as long as the daemon does not read. Whole frames: those of several threads do not
  // mix. The descriptor stays the caller's. kUnreachable once the daemon has gone, kTooLarge over
  // 64 MiB.
  Status send(const Json& frame, int descriptor = -1) {
    return send_text(dump_json(frame), descriptor);
  }
  template <std::same_as<OrderedJson> J>
  Status send(const J& frame, int descriptor = -1) {
    return send_text(dump_json(frame), descriptor);
  }

  // The next frame. kDeadline leaves everything in place, so that a later call goes on where this
  // one stopped; a deadline in the past takes what is there. kUnreachable "the daemon has gone" at
  // the end; kCorrupt for bytes that are no frame: both final.
  Result<ChannelFrame> receive(Deadline deadline);

  int descriptor() const {
    return socket_.get();
  }  // to poll beside others: readable means receive() is worth a call

 private:
  Status send_text(const std::string& text, int descriptor);
  Status fill(std::string& buffer, size_t size, Deadline deadline);

  UniqueFd socket_;
  std::mutex sending_;
  std::string header_;  // of the frame under way
  std::string payload_;
  UniqueFd passed_;
};

// Two ends of a channel, both closed on exec.
Result<std::pair<UniqueFd, UniqueFd>> make_channel_pair();

}  // namespace shoal
