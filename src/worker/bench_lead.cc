#include "worker/bench_lead.h"

#include "worker/bench_runs.h"

namespace shoal {
namespace {

constexpr std::chrono::milliseconds kTickEvery{500};
constexpr int64_t kMostTokens = int64_t{1} << 31;

Result<int64_t> count(const OrderedJson& json, const char* name, int64_t least) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_number_integer() || *found < least ||
      *found > kMostTokens) {
    return fail(ErrorCode::kInvalidArgument,
                "the field '{}' of a bench order is not a whole number from {}", name, least);
  }
  return found->get<int64_t>();
}

Result<double> run(BenchRuns& runs, const BenchOrder& order) {
  if (order.prompt_tokens > 0) return runs.time_prefill(order.prompt_tokens);
  SHOAL_TRY(runs.fill(order.batch, order.context));
  return runs.time_decode(order.batch, order.context, order.output_tokens);
}

}  // namespace

Result<BenchOrder> bench_order_from_json(const OrderedJson& json) {
  BenchOrder order;
  SHOAL_ASSIGN(order.prompt_tokens, count(json, "prompt_tokens", 0));
  SHOAL_ASSIGN(order.batch, count(json, "batch", 1));
  SHOAL_ASSIGN(order.context, count(json, "context", 0));
  SHOAL_ASSIGN(order.output_tokens, count(json, "output_tokens", 0));
  return order;
}

Status lead_bench(Shard& shard, Mailbox<BenchOrder>& orders, Channel& daemon) {
  BenchRuns runs(*shard.engine, *shard.backend, shard.description.vocabulary_size, 1, false,
                 [&] { return !orders.closed(); });
  while (!orders.closed()) {
    const std::optional<BenchOrder> order = orders.take(Clock::now() + kTickEvery);
    if (!order) {
      SHOAL_TRY(shard.engine->tick());
      continue;
    }
    SHOAL_ASSIGN(const double seconds, run(runs, *order));
    (void)daemon.send({{"type", "stats"}, {"stats", to_json(shard_stats(shard))}});
    (void)daemon.send({{"type", "benched"}, {"seconds", seconds}});
  }
  return shard.engine->stop();
}

}  // namespace shoal
