// Data links that arrive on the node port: reads each one's preamble without blocking the loop and
// hands the socket on. Garbage, and whoever is slow, is closed without an answer. Loop thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

#include "base/file.h"
#include "transport/link.h"

namespace shoal::cluster {

class DataPort {
 public:
  using Handler =
      std::function<void(LinkPreamble, UniqueFd)>;  // a blocking socket, its preamble consumed

  DataPort(boost::asio::io_context& loop, Handler handler);
  ~DataPort();  // closes those that still wait
  DataPort(const DataPort&) = delete;
  DataPort& operator=(const DataPort&) = delete;
  void accept(UniqueFd socket);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace shoal::cluster
