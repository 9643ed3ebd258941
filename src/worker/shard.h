// Forming one shard: links to the other ranks, then the engine with this rank's part of the model.
#pragma once

#include <map>
#include <memory>

#include "base/thread_pool.h"
#include "engine/engine.h"
#include "gguf/gguf.h"
#include "models/model.h"
#include "supervise/channel.h"
#include "supervise/shard_order.h"
#include "worker/mailbox.h"

namespace shoal {

// A socket that another rank dialled and the daemon passed on, or, of links that are given, this
// rank's end: of a TCP connection, or of shared memory and of the socket beside it.
struct ArrivedLink {
  int from_rank;
  UniqueFd socket;
  bool is_memory = false;
};

struct Shard {
  gguf::File file;
  ModelDescription description;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Engine> engine;
};

// Higher ranks dial lower ones. Every failure names the rank and address it concerns.
Result<Group> form_group(const ShardOrder& order, Mailbox<ArrivedLink>& arrived, Deadline deadline);

// What a rank of a plan runs with.
EngineOptions engine_options(const Plan& plan, int64_t page_tokens);

// Opens the file and reads what it says of the model.
Result<Shard> open_shard(const ShardOrder& order);
// Forms the group, loads the weights; reports "progress" frames while it does. Returns on all ranks
// together.
Status form_shard(Shard& shard, const ShardOrder& order, Mailbox<ArrivedLink>& arrived,
                  Channel& daemon);

ShardStats shard_stats(const Shard& shard);

}  // namespace shoal
