// What a daemon orders a worker to run, and what a worker reports of itself: the content of the
// "start" and "stats" frames. Plain data; any thread.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/json.h"
#include "base/result.h"
#include "placement/placement.h"
#include "sampling/defaults.h"
#include "transport/link.h"

namespace shoal {

struct ShardOrder {
  std::array<std::byte, 16> instance{};
  uint64_t generation = 0;
  int rank = 0;
  Plan plan;
  std::string model_path;
  LinkMode link_mode = LinkMode::kTls;
  std::string emulated;     // the link that every link pretends to be; empty: none
  bool links_given = false;  // each comes as a descriptor; nobody dials
  bool verbs = false;        // frames go over RDMA; the links as made carry its control
  bool bench = false;       // the lead measures what it is told to, and serves nobody
  std::vector<std::vector<std::string>>
      addresses;            // per rank: where its node's port may be reached
  std::vector<Bytes> keys;  // per rank: of the pair (this rank, that rank); empty for itself
  int threads = 1;
  std::string isa;                        // "" for the best
  std::vector<SamplingDefault> sampling;  // as the catalogue recommends; used by the lead
};
Json to_json(const ShardOrder& order);
Result<ShardOrder> shard_order_from_json(const Json& json);

struct ShardStats {
  uint64_t steps = 0;  // all, and those of generated rows alone:
  uint64_t decode_steps = 0;
  double decode_compute_s = 0;
  double decode_wait_s = 0;  // for other ranks
  uint64_t decode_bytes_sent = 0;
  double compute_s = 0;
  double wait_s = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t activation_bytes = 0;
  uint64_t resident_peak_bytes = 0;  // of the process, as the kernel counts
  std::string backend;               // "cpu avx2, 2 threads"
  int64_t running = 0;               // requests, on the lead
  int64_t waiting = 0;
};
Json to_json(const ShardStats& stats);
Result<ShardStats> shard_stats_from_json(const Json& json);

}  // namespace shoal
