// Two ends of a link over the machine's own RDMA device, with a TLS link for control.
#pragma once

#include <thread>

#include "transport/verbs_link.h"

namespace shoal {

// The processor is emulated: generous.
inline Deadline soon() {
  return Clock::now() + std::chrono::seconds(60);
}

inline Result<std::unique_ptr<Link>> make_end(UniqueFd socket, bool dialled,
                                              const VerbsOptions& options) {
  const Bytes key(32, std::byte{7});
  SHOAL_ASSIGN(auto control, make_tcp_link(std::move(socket), LinkMode::kTls, dialled, key,
                                           dialled ? "rank 1 at b" : "rank 0 at a", soon()));
  return make_verbs_link(std::move(control), options, soon());
}

struct RealEnds {
  Result<std::unique_ptr<Link>> a = nullptr;  // of rank 0
  Result<std::unique_ptr<Link>> b = nullptr;
};

inline RealEnds join_over_rdma(const VerbsOptions& options) {
  auto sockets = connected_tcp_pair();
  SHOAL_CHECK(sockets.has_value());
  RealEnds ends;
  std::thread other([&] { ends.b = make_end(std::move(sockets->second), false, options); });
  ends.a = make_end(std::move(sockets->first), true, options);
  other.join();
  return ends;
}

}  // namespace shoal
