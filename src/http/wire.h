// Wire: a stream with a reader of its own in the background, so that a peer that leaves is noticed
// also while nothing is expected from it, and with one deadline at a time. Private to this module;
// on the loop's thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "http/stream.h"

namespace shoal::http {

class Wire : public std::enable_shared_from_this<Wire> {
 public:
  Wire(asio::any_io_executor executor, std::unique_ptr<Stream> stream);

  // False when it fails or the deadline passes; last_error() says why.
  asio::awaitable<bool> handshake();
  void start_reading();

  // What has arrived and was not consumed; the reader pauses while it is over 256 KiB.
  std::string_view input() const { return std::string_view(input_).substr(input_begin_); }
  void consume(size_t count);
  // Until more input has come. False: the peer has ended, the deadline passed, or the wire was
  // closed.
  asio::awaitable<bool> wait_more();
  asio::awaitable<bool> write(std::string_view bytes);  // false: the wire is of no more use

  // When it passes, a wait ends, and a write or a handshake closes the wire.
  void set_deadline(Deadline deadline);
  bool timed_out() const { return timed_out_; }
  bool ended() const { return ended_; }  // nothing more will arrive
  bool closed() const { return closed_; }
  const SystemError& last_error() const { return last_error_; }
  std::string peer_fingerprint() const { return stream_->peer_fingerprint(); }

  // Called once when the peer ends or the wire is closed; empty takes the wish back.
  void on_end(std::function<void()> callback);
  // Says that nothing more will be sent and drops what still arrives, so that the peer reads our
  // last words instead of a reset; closes when the peer does or after `most`.
  asio::awaitable<void> linger(std::chrono::milliseconds most);
  void close();

 private:
  static asio::awaitable<void> read_loop(std::shared_ptr<Wire> self);
  void end(const SystemError& error);
  void expire();

  std::unique_ptr<Stream> stream_;
  asio::steady_timer arrived_;   // cancelled when input_, ended_ or timed_out_ changes
  asio::steady_timer consumed_;  // cancelled when there is room again
  asio::steady_timer deadline_timer_;
  Deadline deadline_ = kNoDeadline;
  std::string input_;
  size_t input_begin_ = 0;
  uint64_t received_bytes_ = 0;
  std::function<void()> on_end_;
  SystemError last_error_;
  bool reading_ = false;
  bool sending_ = false;
  bool discard_ = false;
  bool timed_out_ = false;
  bool ended_ = false;
  bool closed_ = false;
};

}  // namespace shoal::http
