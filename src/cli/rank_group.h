// The ranks of one plan, each a worker process of this command on this machine or of one that
// listens on another, that run what they are told and report how long it took. One thread, which
// must outlive the group.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/rank_links.h"
#include "cli/rank_machine.h"
#include "supervise/shard_order.h"
#include "worker/bench_lead.h"

namespace shoal::cli {

// What the groups of one command share: while one of them computes, the others are heard too, and
// the failure of any ends what goes on. Destroyed after them.
struct RankLoop {
  boost::asio::io_context io;
  std::map<const void*, std::function<Status()>> groups;  // each says whether it is well
};

struct RankGroupOptions {
  std::string name;  // for sentences: "two ranks"
  Plan plan;
  std::string model_path;
  LinkChoice link;
  // Where ranks 1 to the last run; empty: here.
  std::vector<std::unique_ptr<RankMachine>> machines;
  int threads = 1;                      // per rank here
  std::vector<std::vector<int>> cores;  // of each rank here, to be pinned to; empty: anywhere
  std::string isa;
  const NetworkNamespaces* spaces = nullptr;
};

class RankGroup {
 public:
  // Called while it waits: what for, bytes done and in all; false stops (kCancelled).
  using Progress = std::function<bool(const std::string& phase, uint64_t done, uint64_t total)>;

  // Starts the workers and returns when all have loaded. Here and below, when ranks fail the error
  // begins with the sentence of the one nearest to the cause; a line for each other one follows.
  static Result<std::unique_ptr<RankGroup>> start(RankLoop& loop, RankGroupOptions options,
                                                  Progress progress);
  ~RankGroup();  // kills what still runs

  // One timed run, in seconds.
  Result<double> run(const BenchOrder& order);
  // As of each rank's last report; fresh() waits for one of each.
  const std::vector<ShardStats>& stats() const;
  Result<std::vector<ShardStats>> fresh_stats();
  const std::string& name() const;

 private:
  struct State;
  explicit RankGroup(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace shoal::cli
