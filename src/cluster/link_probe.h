// Measuring a link as a worker will use it: a data link to the peer's node port, small frames there
// and back, then a long one; or, when somebody asks, frames of many sizes (link_timing.h). What a
// daemon's control connection takes says little of that. The LinkProber belongs to the loop's
// thread; each measurement runs on a thread of its own and ends within seconds.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/file.h"
#include "cluster/hello.h"
#include "cluster/link_timing.h"
#include "transport/link.h"

namespace shoal::cluster {

struct ProbeTicket {
  std::array<std::byte, 16> id{};  // takes the place of the instance in the preamble
  Bytes key;                       // 32 bytes
  LinkMode mode = LinkMode::kTls;
  bool timing = false;  // the side that is dialled follows time_link(), not measure_link()
};

// Of frames between nodes.
inline constexpr uint64_t kMostTimedBytes = 16 << 20;

// Blocking; for the threads of LinkProber and for tests.
Result<LinkMeasure> measure_link(Link& link);
void answer_measurement(Link& link);  // until the other side closes

class LinkProber {
 public:
  explicit LinkProber(boost::asio::io_context& loop);
  ~LinkProber();
  LinkProber(const LinkProber&) = delete;
  LinkProber& operator=(const LinkProber&) = delete;

  void stop();  // cuts measurements short and waits for their thread; nothing begins any more
  // A measurement is under way or awaited: another would disturb it.
  bool is_busy() const;
  // Dials `address` and measures. `done` is called on the loop, unless the prober has gone.
  void measure(std::string address, ProbeTicket ticket,
               std::function<void(Result<LinkMeasure>)> done);
  // The same for time_link().
  void time(std::string address, ProbeTicket ticket, std::vector<uint64_t> sizes, double seconds,
            std::function<void(Result<LinkTimes>)> done);
  // A peer has announced that it will dial with this ticket. kBusy.
  Status expect(ProbeTicket ticket);
  // True when the connection was an awaited measurement; the socket is then taken.
  bool offer(const LinkPreamble& preamble, UniqueFd& socket);

 private:
  struct State;
  template <typename R>
  void start(std::string address, ProbeTicket ticket, std::function<Result<R>(Link&)> work,
             std::function<void(Result<R>)> done);
  std::shared_ptr<State> state_;
};

}  // namespace shoal::cluster
