// What two commands say to each other that bench ranks on several machines: JSON frames over a TLS
// link, and a sign of life from both sides. Whatever comes in is bounded before it is kept. On the
// thread of its loop. docs/formats/bench-ranks.md has the frames.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "transport/link.h"

namespace shoal::cli {

inline constexpr int kRankControlVersion = 1;
inline constexpr size_t kLargestControlFrame = 1 << 20;
// Every step of opening a connection together; and the longest silence of one that is open.
inline constexpr std::chrono::seconds kControlTime{2};

// Before a link has a loop: whole frames, waiting. Errors as Link's; kTooLarge, kInvalidArgument
// and kCorrupt for what is no frame.
Status send_frame(Link& link, const Json& frame, Deadline deadline);
Result<Json> receive_frame(Link& link, Deadline deadline);

class RankControl {
 public:
  struct Callbacks {
    std::function<void(const Json&)> on_frame;
    std::function<void(const Error&)> on_end;  // once, and nothing after it
  };
  // Callbacks come from later turns of the loop; they may destroy this object, after which none
  // comes.
  RankControl(boost::asio::io_context& loop, std::unique_ptr<Link> link, Callbacks callbacks);
  ~RankControl();  // an end that the other side notices at once
  void set_callbacks(Callbacks callbacks);
  void send(const Json& frame);  // dropped once the link has ended

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Text of another machine, fit for this one's terminal: one line without control characters.
std::string printable(std::string_view text, size_t longest = 1000);
std::string this_machine();  // its name

}  // namespace shoal::cli
