#include "serve/event_stream.h"

namespace shoal::serve {

void EventStream::push(Event event) {
  if (ended_) return;
  if (event.kind == Event::Kind::kToken) {
    if (event.number < next_number_) return;
    if (event.number > next_number_) {
      fail({ErrorCode::kInternal, fmt::format("token {} arrived where {} was expected; ask again",
                                              event.number, next_number_)});
      return;
    }
    ++next_number_;
  }
  ended_ = event.kind == Event::Kind::kDone || event.kind == Event::Kind::kError;
  events_.push_back(std::move(event));
  arrived_.notify();
}

void EventStream::fail(Error error) {
  Event event;
  event.kind = Event::Kind::kError;
  event.error = std::move(error);
  push(std::move(event));
}

Task<Event> EventStream::next() {
  while (events_.empty()) co_await arrived_.wait(kNoDeadline);
  Event event = std::move(events_.front());
  events_.pop_front();
  co_return event;
}

void EventStream::cancel() {
  if (ended_) return;
  fail({ErrorCode::kCancelled, "nobody waits for the rest of this answer"});
  if (on_cancel_) on_cancel_();
}

}  // namespace shoal::serve
