// The instances that this node coordinates: placed, formed over their nodes, watched, formed again
// when a rank is lost. On the loop's thread; one coroutine per instance keeps it running until it
// is stopped.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "serve/local_shards.h"
#include "supervise/backoff.h"
#include "supervise/culprit.h"

namespace shoal::serve {

struct Instance {
  enum class State { kPlacing, kForming, kReady, kRestarting, kFailed, kStopped };

  std::string id;     // 32 hexadecimal digits
  std::string model;  // as asked
  Wish wish;
  State state = State::kPlacing;
  Error error;        // why it failed or restarts
  std::string phase;  // while placing: "hashing x.gguf"
  uint64_t phase_done_bytes = 0;
  uint64_t phase_total_bytes = 0;
  uint64_t generation = 0;
  ModelFile file;
  std::vector<SamplingDefault> sampling;  // as the catalogue recommends
  Plan plan;
  std::string reason;  // why this plan
  bool stopping = false;

  bool open() const { return state != State::kFailed && state != State::kStopped; }
  const std::string& lead() const { return plan.ranks.front().node; }
};
const char* name_of(Instance::State state);

class Instances {
 public:
  Instances(Context& context, LocalShards& shards);

  // The plans for a model that is on this node's disk; nothing is started.
  Task<Result<Placement>> plan(std::string model, Wish wish);
  // The instance of a model, started when there is none. Watch it with wait().
  std::shared_ptr<Instance> place(const std::string& model, const Wish& wish);
  // By the name that was asked for, by instance id, or by the file's checksum.
  std::shared_ptr<Instance> find(const std::string& model, const std::string& sha256 = "") const;
  // Until it is ready, has failed, or the deadline passes.
  Task<Status> wait(std::shared_ptr<Instance> instance, Deadline deadline);
  Task<Status> stop(std::string model);

  // For other nodes and `ps`: with each rank's state as far as this node sees it.
  Json published() const;
  Json describe(const Instance& instance) const;
  void stop_all();

 private:
  Task<void> keep(std::shared_ptr<Instance> instance);
  Task<Status> form(Instance& instance);
  Task<Result<Placement>> place_card(ModelCard card, Wish wish);
  Task<Result<Placement>> place_file(Instance& instance);
  Task<void> await_measured_links(const Instance& instance);
  Task<Status> reserve_everywhere(Instance& instance);
  Task<Status> commit_everywhere(Instance& instance);
  Task<void> release_everywhere(Instance& instance);
  Task<Status> await_state(Instance& instance, std::string_view state, Deadline patience);
  Task<Error> watch(Instance& instance);
  // Ranks that failed, in the order in which that was heard of, and each one's sentence.
  struct Fallen {
    std::vector<FallenRank> ranks;
    std::vector<Error> errors;
  };
  // Adds those that have failed since the last look. A rank that its node does not report counts
  // from `unseen_until` on.
  void look(const Instance& instance, Deadline unseen_until, Fallen& fallen) const;
  Task<Error> cause(const Instance& instance, Deadline unseen_until, Fallen fallen);
  Result<Json> rank_state(const Instance& instance, size_t rank) const;
  std::vector<ShardReservation> reservations(const Instance& instance) const;
  Task<Status> tell(const std::string& node, const std::string& verb, Json body);
  Result<uint64_t> next_generation();

  Context& context_;
  LocalShards& shards_;
  std::map<std::string, std::shared_ptr<Instance>> instances_;  // by id
  std::map<std::string, ModelCard> cards_;                      // by SHA-256 of the file
};

}  // namespace shoal::serve
