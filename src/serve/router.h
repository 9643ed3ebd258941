// From a request for a model to the events that answer it, wherever in the cluster its lead runs.
// On the loop's thread.
#pragma once

#include "serve/instances.h"

namespace shoal::serve {

class Router {
 public:
  Router(Context& context, LocalShards& shards, Instances& instances);

  // Finds or places the model, waits until it is ready, and sends the request to its lead:
  // directly, or one hop to the lead's node.
  Task<Result<std::shared_ptr<EventStream>>> start(GenerateRequest request);

  // The instance of a model as this node or another describes it, started here when there is none.
  // `progress` is called now and then with {phase, done_bytes, total_bytes}.
  using PlaceProgress = std::function<Task<bool>(Json)>;  // false: nobody waits any more
  Task<Result<Json>> place(std::string model, Wish wish, PlaceProgress progress);
  Task<Status> stop(std::string model);
  Json all_instances() const;

  // For the node that is one hop away: the request of a client elsewhere, by id so that it can be
  // cancelled.
  Task<void> serve_remote(http::Exchange& exchange);
  void cancel_remote(const std::string& id);

 private:
  std::optional<Json> elsewhere(const std::string& model, const std::string& sha256) const;
  Task<void> relay(std::string lead, OrderedJson body, std::shared_ptr<EventStream> stream);

  Context& context_;
  LocalShards& shards_;
  Instances& instances_;
  std::map<std::string, std::weak_ptr<EventStream>>
      remote_;  // requests of other nodes that are answered here
};

}  // namespace shoal::serve
