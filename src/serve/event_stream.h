// The events of one request on their way through a daemon: filled by a worker's frames or by
// another node's answer, emptied by whoever serves the client. On the loop's thread.
#pragma once

#include <deque>
#include <functional>

#include "serve/loop.h"
#include "supervise/protocol.h"

namespace shoal::serve {

class EventStream {
 public:
  EventStream(asio::io_context& loop, std::function<void()> on_cancel)
      : arrived_(loop), on_cancel_(std::move(on_cancel)) {}
  ~EventStream() { cancel(); }
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  // Tokens are numbered: one seen before is dropped, a gap ends the stream with an error.
  void push(Event event);
  void fail(Error error);
  // The next event; after kDone or kError do not call again.
  Task<Event> next();
  // Nobody wants the rest: tells whoever produces it, and gives next() a last kError (kCancelled).
  // Harmless when the stream has ended.
  void cancel();
  bool ended() const { return ended_; }

 private:
  Signal arrived_;
  std::function<void()> on_cancel_;
  std::deque<Event> events_;
  int64_t next_number_ = 0;
  bool ended_ = false;  // kDone or kError has been pushed
};

}  // namespace shoal::serve
