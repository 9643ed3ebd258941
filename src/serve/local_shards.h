// The shards that this node runs, for whichever node coordinates their instance: memory reserved,
// file fetched, worker started, watched. On the loop's thread.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "serve/context.h"
#include "serve/event_stream.h"
#include "supervise/shard_order.h"
#include "supervise/worker_process.h"

namespace shoal::serve {

// How a coordinator orders a shard: the order for the worker, and where the model's file may be
// fetched.
struct ShardReservation {
  ShardOrder order;  // model_path is the member's own business
  std::string model_name;
  std::string coordinator;           // node id
  std::vector<std::string> holders;  // nodes that have the file
};
Json to_json(const ShardReservation& reservation);
Result<ShardReservation> shard_reservation_from_json(const Json& json);

class LocalShards {
 public:
  explicit LocalShards(Context& context);
  ~LocalShards();

  // Reserves memory and sees to the file. kDoesNotFit with the numbers, kConflict for an older
  // generation.
  Status reserve(ShardReservation reservation);
  // Starts the worker of a shard whose file is there.
  Status commit(const std::string& instance, uint64_t generation);
  void release(const std::string& instance, uint64_t up_to_generation);

  // What other nodes see: [{instance, generation, rank, state, done_bytes, total_bytes, error,
  // complaint, stats}]. The complaint: what a failed worker itself said, if it did.
  Json published() const;
  std::optional<Json> published(const std::string& instance, uint64_t generation) const;
  uint64_t reserved_bytes() const;
  void pass_link(const LinkPreamble& preamble, UniqueFd socket);

  // Sends a request to the lead worker of an instance; kNotFound when it does not run here.
  Result<std::shared_ptr<EventStream>> generate(const std::string& instance,
                                                const GenerateRequest& request);

  Signal& changed() { return changed_; }
  // Called a few times a second: kills workers that make no progress, lets go of shards whose
  // coordinator is gone.
  void sweep();

 private:
  struct Shard;
  void start_fetch(const std::shared_ptr<Shard>& shard);
  Task<void> fetch(std::shared_ptr<Shard> shard);
  void on_frame(Shard& shard, const Json& frame);
  void on_exit(Shard& shard, const WorkerExit& exit);
  void fail_shard(Shard& shard, Error error, std::optional<std::string> complaint = {});
  void refresh_facts();
  bool abandoned(const Shard& shard) const;

  Context& context_;
  Signal changed_;
  std::map<std::string, std::shared_ptr<Shard>> shards_;  // by instance id
  uint64_t next_request_ = 1;
};

}  // namespace shoal::serve
