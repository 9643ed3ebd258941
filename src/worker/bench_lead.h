// What the lead of a measured group does: the timed runs that it is told to. The thread that
// computes.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "supervise/channel.h"
#include "worker/mailbox.h"
#include "worker/shard.h"

namespace shoal {

// One timed run: of a prompt, or, without one, of decoding.
struct BenchOrder {
  int64_t prompt_tokens = 0;
  int64_t batch = 1;
  int64_t context = 0;
  int64_t output_tokens = 0;
};
Result<BenchOrder> bench_order_from_json(const OrderedJson& json);

// Until the mailbox is closed, or a rank is lost. Answers each order with a "benched" frame.
Status lead_bench(Shard& shard, Mailbox<BenchOrder>& orders, Channel& daemon);

}  // namespace shoal
