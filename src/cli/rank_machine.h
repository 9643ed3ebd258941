// A machine that listens for benches, as the command sees it that leads one: what it says of
// itself, and the rank that runs there. On the thread of its loop; open() waits up to 2 s.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/machine_code.h"
#include "cli/rank_control.h"
#include "supervise/shard_order.h"

namespace shoal::cli {

struct MachineFacts {
  std::string name;
  std::string address;  // of what listens, as a number; empty: this machine
  std::string isa;
  int threads = 0;
  uint64_t memory_available_bytes = 0;
  std::string file;         // its copy of the model: the name without the folder,
  std::string fingerprint;  // of engine/agreement.h
};

class RankMachine {
 public:
  // kUnreachable: nobody listens there; kPermission: not with this code; kUnsupported: another
  // version; kBusy: it benches for somebody else.
  static Result<std::unique_ptr<RankMachine>> open(boost::asio::io_context& loop,
                                                   const MachineCode& code, int rank);

  const MachineFacts& facts() const { return facts_; }
  const std::optional<Error>& lost() const { return lost_; }  // why nothing comes any more
  Clock::time_point last_frame_at() const { return last_frame_at_; }

  // `on_frame` gets what the worker there says, "started" first, and "exit" last.
  void start(const ShardOrder& order, bool pin, RankControl::Callbacks callbacks);
  // Has its rank connect to that of another machine.
  void connect(int rank, const MachineFacts& other);
  // A connection for rank 0's link to the rank there.
  Result<UniqueFd> dial(const ShardOrder& order) const;

 private:
  RankMachine(MachineFacts facts, int rank) : facts_(std::move(facts)), rank_(rank) {}
  void take_frame(const Json& frame);
  void take_end(const Error& why);

  MachineFacts facts_;
  int rank_;
  std::unique_ptr<RankControl> control_;
  RankControl::Callbacks callbacks_;
  std::optional<Error> lost_;
  Clock::time_point last_frame_at_ = Clock::now();
};

}  // namespace shoal::cli
