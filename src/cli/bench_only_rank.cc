// `shoal bench ranks --only-rank`.
#include <algorithm>

#include "base/median.h"
#include "cli/bench_ranks.h"
#include "cli/rank_alone.h"
#include "gguf/gguf.h"
#include "kernels/cpu_backend.h"
#include "kernels/probe.h"
#include "worker/bench_runs.h"
#include "worker/shard.h"

namespace shoal::cli {
namespace {

NodeFacts this_node(Isa isa, int threads) {
  const ProbeResult probe = probe_machine(isa, threads);
  NodeFacts node;
  node.threads = threads;
  node.read_bytes_per_s = probe.read_bytes_per_s;
  node.decode_bytes_per_s = probe.decode_bytes_per_s;
  node.multiply_adds_per_s = probe.multiply_adds_per_s;
  node.float_multiply_adds_per_s = probe.float_multiply_adds_per_s;
  return node;
}

Status measure(const BenchRanksOptions& options, BenchRuns& runs, GroupSpeed& speed) {
  SHOAL_TRY(runs.fill(options.batch, options.context));
  for (int64_t i = -1; i < options.repeat; ++i) {  // the first warms up
    SHOAL_ASSIGN(const double prefill, runs.time_prefill(options.prompt_tokens));
    SHOAL_ASSIGN(const double decode,
                 runs.time_decode(options.batch, options.context, options.output_tokens));
    if (i < 0) continue;
    speed.prefill_s_of_runs.push_back(prefill);
    speed.decode_s_of_runs.push_back(decode);
  }
  speed.prefill_tokens_per_s =
      static_cast<double>(options.prompt_tokens) / median(speed.prefill_s_of_runs);
  speed.decode_tokens_per_s =
      static_cast<double>(options.batch * options.output_tokens) / median(speed.decode_s_of_runs);
  return {};
}

}  // namespace

Status bench_only_rank(const BenchRanksOptions& options, const RankGroup::Progress& progress,
                       BenchRanksReport& report) {
  const int rank = *options.only_rank;
  if (rank < 0 || rank >= std::ssize(report.plan.ranks)) {
    return fail(ErrorCode::kInvalidArgument, "--only-rank {}: the plan has ranks 0 to {}", rank,
                report.plan.ranks.size() - 1);
  }
  SHOAL_ASSIGN(const LinkModel link, parse_link_model(options.link.emulated));
  report.threads = options.threads > 0 ? options.threads : usable_core_count();
  const NodeFacts before = this_node(report.isa, report.threads);

  Shard shard;
  SHOAL_ASSIGN(shard.file, gguf::File::open(options.model_path));
  SHOAL_ASSIGN(shard.description, describe(shard.file));
  shard.backend = make_cpu_backend(report.isa, report.threads);
  bool carry_on = true;
  const auto loading = [&](uint64_t done, uint64_t total) {
    carry_on = carry_on && progress("loading", done, total);
  };
  SHOAL_ASSIGN(
      shard.engine,
      make_rank_alone(shard.file, shard.description, report.plan, rank, *shard.backend,
                      engine_options(report.plan, shard.backend->page_tokens()), link, loading));
  if (!carry_on) return fail(ErrorCode::kCancelled, "stopped");
  BenchRuns runs(*shard.engine, *shard.backend, shard.description.vocabulary_size, 1, false,
                 [&] { return progress("measuring", 0, 0); });
  SHOAL_TRY(measure(options, runs, report.ranks));
  report.rank_reports.push_back(
      rank_report(report.plan, rank, shard_stats(shard), facts_of_this_machine(report)));

  // The faster look at the machine: others on it only slow it down.
  const NodeFacts after = this_node(report.isa, report.threads);
  report.predicted =
      predict_stage(report, report.plan.ranks[static_cast<size_t>(rank)].stage,
                    before.decode_bytes_per_s > after.decode_bytes_per_s ? before : after, link);
  return {};
}

}  // namespace shoal::cli
