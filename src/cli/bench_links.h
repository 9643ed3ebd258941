// `shoal bench links`: what frames between two ranks cost over each kind of link on this machine,
// and over the links to other nodes, as the daemon measures them. The two ranks are threads of this
// process, each on a core of its own where there are two. One thread calls.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "transport/link_model.h"

namespace shoal::cli {

// A kind of link, as people name it: "shm", "tls", "plain", "emulated:1gbe", "emulated:70,0.94".
struct BenchLink {
  enum class Kind { kShm, kTls, kPlain, kEmulated };
  Kind kind = Kind::kShm;
  LinkModel model;  // of kEmulated, over shared memory

  std::string name() const;       // "shm", "tcp", "emulated:1gbe"
  std::string_view mode() const;  // "tls" or "plain"
};
// A list; "tcp" stands for both modes. kInvalidArgument.
Result<std::vector<BenchLink>> parse_bench_links(std::string_view text);
// "16KiB,1MiB". kInvalidArgument.
Result<std::vector<uint64_t>> parse_sizes(std::string_view text);

struct LinkBenchOptions {
  std::vector<BenchLink> links;
  std::vector<uint64_t> sizes;
  double seconds = 0.4;  // for each link and size, about
};

// Both ranks send a frame of so many bytes and wait for the other's.
struct LinkBenchResult {
  std::string link;
  std::string mode;
  uint64_t bytes = 0;
  double exchange_p50_s = 0;
  double exchange_p99_s = 0;
  double bytes_per_s = 0;  // in each direction, both at once
};

// Called before each measurement; returning false stops (kCancelled).
using LinkBenchProgress = std::function<bool(const std::string& link, uint64_t bytes)>;
Result<std::vector<LinkBenchResult>> bench_links(const LinkBenchOptions& options,
                                                 const LinkBenchProgress& progress);

std::string links_text(const std::vector<LinkBenchResult>& results);
Json links_json(const std::vector<LinkBenchResult>& results);

// --- between nodes: the daemon of this node measures, or says what it measured before ---

// What to ask of the daemon's /admin/bench/links: the sizes, and of the links the modes of TCP.
Json between_nodes_request(const std::vector<BenchLink>& links, const std::vector<uint64_t>& sizes,
                           double seconds, const std::string& node);
// Its answer, line by line.
struct BetweenNodes {
  struct Times {
    std::string node, id, mode;
    double round_trip_p50_s = 0;  // of a small frame
    double round_trip_p99_s = 0;
    std::vector<LinkBenchResult> exchanges;
  };
  struct Refusal {
    std::string node, id, mode, reason;
  };
  std::vector<Times> measured;
  std::vector<Refusal> refused;
};
// Adds what a line says; false: it says neither.
bool add_line(BetweenNodes& between, const Json& line);

std::string between_nodes_text(const BetweenNodes& between);
Json between_nodes_json(const BetweenNodes& between);  // a row for each node, mode and size
Json not_measured_json(const BetweenNodes& between);

// What the daemon's /admin/nodes says of links to other nodes.
std::string peers_text(const Json& nodes);
Json peers_json(const Json& nodes);

}  // namespace shoal::cli
