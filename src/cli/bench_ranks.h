// `shoal bench ranks MODEL`: one model over several ranks, each a process on cores of its own on
// this machine, where asked in its own network namespace, or on a machine that listens for it; and
// in the same run, turn by turn, one rank alone and one process on all of this machine's cores that
// are used, so that what ranks gain is told apart from what the machine's mood gives. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/json.h"
#include "base/result.h"
#include "cli/rank_group.h"
#include "placement/cost.h"
#include "placement/placement.h"
#include "transport/link_model.h"

namespace shoal::cli {

struct BenchRanksOptions {
  std::string model_path;
  int ranks = 2;
  PlanMode mode = PlanMode::kTensor;  // of several ranks
  std::vector<double> parts;          // of each rank; empty: equal
  std::string plan_path;  // instead of ranks, mode, parts and payload: docs/formats/plan.md
  std::vector<MachineCode> machines;  // of ranks 1 to the last; empty: all here
  LinkChoice link;
  Payload payload = Payload::kF32;
  bool pin = false;
  bool netns = false;
  std::string rate;              // of each rank's link in its namespace, for tc
  bool alone = false;            // measure the ranks only, not what they are compared with
  std::optional<int> only_rank;  // run this one, the others imagined behind an emulated link
  int64_t prompt_tokens = 512;
  int64_t output_tokens = 64;
  int64_t batch = 1;
  int64_t context = 0;
  int64_t repeat = 3;
  int threads = 0;  // per rank; 0: its share of the cores
  std::string isa;
  KvType kv_type = KvType::kF16;
};

// What a group of ranks reached: medians of the runs.
struct GroupSpeed {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  std::vector<double> prefill_s_of_runs;
  std::vector<double> decode_s_of_runs;
};

struct RankReport {
  int rank = 0;
  PlannedRank planned;
  ShardStats stats;
  MachineFacts machine;
  double decode_compute_s = 0;  // of a step of generated rows, on average
  double decode_wait_s = 0;
  double decode_bytes_sent = 0;  // per such step
};

struct BenchRanksReport {
  std::string file;
  ModelCard model;
  Plan plan;
  std::string link;
  bool pinned = false;
  bool namespaces = false;
  bool on_machines = false;
  int threads = 0;  // of a rank here
  Isa isa = Isa::kReference;
  int64_t prompt_tokens = 0, output_tokens = 0, batch = 0, context = 0, repeat = 0;
  std::optional<int> only_rank;
  GroupSpeed ranks;
  std::optional<placement::Prediction> predicted;  // of only_rank's stage
  std::optional<GroupSpeed> one_rank;              // a single rank, on the cores of one
  std::optional<GroupSpeed> all_cores;             // a single process, on the cores of all
  std::vector<RankReport> rank_reports;
};

MachineFacts facts_of_this_machine(const BenchRanksReport& report);
RankReport rank_report(const Plan& plan, int rank, const ShardStats& stats, MachineFacts machine);
// What the cost model says of one stage of the report's plan where all nodes and links are alike.
placement::Prediction predict_stage(const BenchRanksReport& report, int stage,
                                    const NodeFacts& node, const LinkModel& link);

Result<BenchRanksReport> bench_ranks(const BenchRanksOptions& options,
                                     const RankGroup::Progress& progress);
// Fills in what one rank of the report's plan reaches, in this process.
Status bench_only_rank(const BenchRanksOptions& options, const RankGroup::Progress& progress,
                       BenchRanksReport& report);
std::string to_text(const BenchRanksReport& report);
Json to_json(const BenchRanksReport& report);

}  // namespace shoal::cli
