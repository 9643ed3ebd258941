#include "cli/bench_ranks.h"

#include <algorithm>
#include <numeric>

#include "base/counted.h"
#include "base/file.h"
#include "base/median.h"
#include "base/units.h"
#include "engine/agreement.h"
#include "gguf/gguf.h"
#include "placement/fit.h"

namespace shoal::cli {
namespace {

// What frames cost there: a copy in and a copy out.
constexpr LinkCost kSharedMemory{.one_way_s = 2e-6, .bytes_per_s = 7.5e9};

constexpr int kMostRanks = 16;

// How many ranks each stage has.
std::vector<int> stage_sizes(PlanMode mode, int ranks) {
  if (mode == PlanMode::kTensor || mode == PlanMode::kOneNode) return {ranks};
  if (mode == PlanMode::kPipeline) return std::vector<int>(static_cast<size_t>(ranks), 1);
  return {(ranks + 1) / 2, ranks / 2};
}

Status check_machines(const BenchRanksOptions& options) {
  if (options.netns || options.only_rank) {
    return fail(ErrorCode::kInvalidArgument,
                "--at has ranks on other machines; {} is for ranks on this one",
                options.netns ? "--netns" : "--only-rank");
  }
  if (options.link.kind == LinkChoice::Kind::kShm) {
    return fail(ErrorCode::kInvalidArgument,
                "--link {} does not reach other machines; use tcp (with TLS), plain or verbs",
                options.link.text);
  }
  return {};
}

Status check(const BenchRanksOptions& options, const ModelCard& card) {
  if (options.ranks < 1 || options.ranks > kMostRanks) {
    return fail(ErrorCode::kInvalidArgument, "--ranks {}: it must be from 1 to {}", options.ranks,
                kMostRanks);
  }
  if (!options.parts.empty() && std::ssize(options.parts) != options.ranks) {
    return fail(ErrorCode::kInvalidArgument,
                "--parts {}: {} for {}; give one for each, such as 2:1",
                fmt::join(options.parts, ":"), counted(std::ssize(options.parts), "part"),
                counted(options.ranks, "rank"));
  }
  if (options.mode == PlanMode::kHybrid && options.ranks < 3) {
    return fail(ErrorCode::kInvalidArgument,
                "--mode hybrid takes at least 3 ranks, for two stages of which one is divided");
  }
  if (!options.machines.empty()) SHOAL_TRY(check_machines(options));
  if (options.netns && options.link.kind != LinkChoice::Kind::kTcp) {
    return fail(ErrorCode::kInvalidArgument,
                "--netns puts ranks into network namespaces, which {} links do not cross; use "
                "--link tcp or plain",
                options.link.text);
  }
  if (!options.rate.empty() && !options.netns)
    return fail(ErrorCode::kInvalidArgument, "--rate {} limits the links of --netns; give both",
                options.rate);
  if (options.only_rank) {
    if (options.link.emulated.empty()) {
      return fail(ErrorCode::kInvalidArgument,
                  "--only-rank imagines the other ranks behind an emulated link; name one, such as "
                  "--link emulated:10gbe");
    }
    if (options.netns) {
      return fail(ErrorCode::kInvalidArgument,
                  "--only-rank runs in this process; --netns is for all ranks");
    }
  }
  const int64_t longest = std::max(options.prompt_tokens, options.context + options.output_tokens);
  if (longest > card.context_length) {
    return fail(ErrorCode::kInvalidArgument,
                "{} tokens are longer than the model's trained context of {}", longest,
                card.context_length);
  }
  return {};
}

// What a plan needs beside its ranks.
Plan empty_plan(const BenchRanksOptions& options, const ModelCard& card) {
  Plan plan;
  plan.model = card.name;
  plan.file_bytes = card.file_bytes;
  plan.context = std::max(options.prompt_tokens, options.context + options.output_tokens);
  // The prompt that is timed has a cache of its own beside those of the decoding ones.
  plan.sequences = options.batch + 1;
  plan.kv_type = options.kv_type;
  plan.payload = options.payload;
  return plan;
}

void add_rank(Plan& plan, const ModelCard& card, const RankCut& cut, int stage) {
  PlannedRank rank;
  rank.node = rank.node_name = fmt::format("rank {}", plan.ranks.size());
  rank.cut = cut;
  rank.stage = stage;
  const auto need = placement::rank_need(card, cut, plan.context, plan.sequences, plan.kv_type);
  rank.weight_bytes = need.weight_bytes;
  rank.kv_bytes = need.kv_bytes;
  rank.memory_bytes = need.memory_bytes - need.lead_bytes;  // no texts, hence no tokenizer
  plan.ranks.push_back(std::move(rank));
  // Of all that is held: where a tied table is at both ends of a pipeline, more than the model.
  double all = 0;
  for (const PlannedRank& one : plan.ranks) all += static_cast<double>(one.weight_bytes);
  for (PlannedRank& one : plan.ranks)
    one.share = static_cast<double>(one.weight_bytes) / std::max(1.0, all);
}

Result<Plan> cut_plan(const BenchRanksOptions& options, const ModelCard& card) {
  Plan plan = empty_plan(options, card);
  std::vector<double> parts = options.parts;
  if (parts.empty()) parts.assign(static_cast<size_t>(options.ranks), 1);
  const std::vector<int> sizes = stage_sizes(options.mode, options.ranks);
  std::vector<double> stage_shares;
  size_t next = 0;
  for (const int size : sizes) {
    const auto begin = parts.begin() + static_cast<std::ptrdiff_t>(next);
    stage_shares.push_back(std::accumulate(begin, begin + size, 0.0));
    next += static_cast<size_t>(size);
  }
  std::vector<Range> layers = {Range{}};
  if (sizes.size() > 1) {
    const bool together = options.batch > 1;  // one sequence's tokens pass all stages anyway
    SHOAL_ASSIGN(layers, placement::balanced_layers(card, stage_shares,
                                                    together ? placement::LayerBalance::kTokens
                                                             : placement::LayerBalance::kPrompt));
  }
  next = 0;
  for (size_t stage = 0; stage < sizes.size(); ++stage) {
    const auto size = static_cast<size_t>(sizes[stage]);
    SHOAL_ASSIGN(auto cuts, partition(card, std::span(parts).subspan(next, size)));
    next += size;
    for (RankCut& cut : cuts) {
      cut.layers = layers[stage];
      add_rank(plan, card, cut, static_cast<int>(stage));
    }
  }
  return plan;
}

// The file's cuts, for the lengths that are measured.
Result<Plan> read_plan(const BenchRanksOptions& options, const ModelCard& card) {
  const auto text = read_file(options.plan_path);
  if (!text) return std::unexpected(text.error().within("--plan"));
  const auto within = [&](const Error& error) {
    return std::unexpected(error.within("--plan " + options.plan_path));
  };
  auto json = parse_json(*text);
  if (!json) return within(json.error());
  const auto read = plan_from_json(*json);
  if (!read) return within(read.error());
  if (std::ssize(read->ranks) > kMostRanks) {
    return within({ErrorCode::kTooLarge, fmt::format("it has {} ranks; {} are started at most",
                                                     read->ranks.size(), kMostRanks)});
  }
  const size_t machines = options.machines.size() + 1;
  if (machines > 1 && read->ranks.size() != machines) {
    return within({ErrorCode::kInvalidArgument,
                   fmt::format("it has {} ranks, and with --at there are {} machines of one each",
                               read->ranks.size(), machines)});
  }
  Plan plan = empty_plan(options, card);
  plan.payload = read->payload;
  plan.stage_links = read->stage_links;
  for (const PlannedRank& rank : read->ranks) {
    add_rank(plan, card, rank.cut, rank.stage);
    plan.ranks.back().node_name = rank.node_name.empty() ? rank.node : rank.node_name;
  }
  return plan;
}

Plan whole_plan(const BenchRanksOptions& options, const ModelCard& card) {
  Plan plan = empty_plan(options, card);
  add_rank(plan, card, whole(card), 0);
  return plan;
}

// Times the groups in turns.
class Turns {
 public:
  explicit Turns(const BenchRanksOptions& options) : options_(options) {}

  void add(RankGroup& group, GroupSpeed& speed) { groups_.push_back({&group, &speed}); }

  Status run() {
    const BenchOrder prefill{.prompt_tokens = options_.prompt_tokens};
    const BenchOrder decode{.batch = options_.batch,
                            .context = options_.context,
                            .output_tokens = options_.output_tokens};
    // The first of each touches memory for the first time and fills caches.
    for (auto& [group, speed] : groups_) {
      SHOAL_TRY(group->run(prefill));
      SHOAL_TRY(group->run(decode));
    }
    for (int64_t i = 0; i < options_.repeat; ++i) {
      for (auto& [group, speed] : groups_) {
        SHOAL_ASSIGN(const double seconds, group->run(prefill));
        speed->prefill_s_of_runs.push_back(seconds);
      }
      for (auto& [group, speed] : groups_) {
        SHOAL_ASSIGN(const double seconds, group->run(decode));
        speed->decode_s_of_runs.push_back(seconds);
      }
    }
    for (auto& [group, speed] : groups_) {
      speed->prefill_tokens_per_s =
          static_cast<double>(options_.prompt_tokens) / median(speed->prefill_s_of_runs);
      speed->decode_tokens_per_s = static_cast<double>(options_.batch * options_.output_tokens) /
                                   median(speed->decode_s_of_runs);
    }
    groups_.clear();
    return {};
  }

 private:
  struct Turn {
    RankGroup* group;
    GroupSpeed* speed;
  };
  const BenchRanksOptions& options_;
  std::vector<Turn> groups_;
};

// Which cores a rank has, and how many threads.
struct CorePlan {
  int threads = 1;
  std::vector<std::vector<int>> of_rank;
  std::vector<int> all;
};

CorePlan plan_cores(const BenchRanksOptions& options, size_t ranks) {
  const std::vector<int> usable = usable_cores();
  CorePlan cores;
  cores.threads =
      options.threads > 0 ? options.threads : std::max(1, static_cast<int>(usable.size() / ranks));
  // Beside other machines this one has a single rank, to be compared with all that it could do.
  if (!options.machines.empty()) cores.all = usable;
  for (size_t rank = 0; rank < ranks; ++rank) {
    auto& mine = cores.of_rank.emplace_back();
    for (int thread = 0; thread < cores.threads; ++thread) {
      const size_t index = rank * static_cast<size_t>(cores.threads) + static_cast<size_t>(thread);
      mine.push_back(usable[index % usable.size()]);
      if (std::ranges::find(cores.all, mine.back()) == cores.all.end())
        cores.all.push_back(mine.back());
    }
  }
  return cores;
}

class BenchRanks {
 public:
  BenchRanks(const BenchRanksOptions& options, const RankGroup::Progress& progress,
             BenchRanksReport& report)
      : options_(options),
        progress_(progress),
        report_(report),
        cores_(plan_cores(options, ranks_here())) {}

  Status run() {
    report_.threads = cores_.threads;
    if (options_.netns) {
      SHOAL_ASSIGN(spaces_, NetworkNamespaces::create(static_cast<int>(report_.plan.ranks.size()),
                                                      options_.rate));
    }
    SHOAL_TRY(open_machines());
    SHOAL_TRY(fits(needed_here(), "the ranks here"));
    if (options_.alone) return measure_only_ranks();
    const Plan one = whole_plan(options_, report_.model);
    report_.one_rank.emplace();
    report_.all_cores.emplace();
    const uint64_t all = needed_here() + 2 * needed(one);
    if (all <= memory_available_bytes()) return measure_together(one);
    // Not all at once: each then has the machine's mood of its own time.
    SHOAL_TRY(measure_only_ranks());
    SHOAL_TRY(fits(needed(one), "one rank alone; --alone leaves it out"));
    SHOAL_TRY(measure_alone(one, false, *report_.one_rank));
    if (are_alike()) return take_one_for_all();
    return measure_alone(one, true, *report_.all_cores);
  }

 private:
  static uint64_t needed(const Plan& plan) {
    uint64_t bytes = 0;
    for (const PlannedRank& rank : plan.ranks) bytes += rank.memory_bytes;
    return bytes;
  }
  Status fits(uint64_t bytes, std::string_view what) const {
    const uint64_t available = memory_available_bytes();
    if (bytes <= available) return {};
    return fail(ErrorCode::kDoesNotFit, "{} needs {} and {} are free: {}", report_.plan.model,
                format_bytes(bytes), format_bytes(available), what);
  }
  size_t ranks_here() const { return options_.machines.empty() ? report_.plan.ranks.size() : 1; }
  uint64_t needed_here() const {
    uint64_t bytes = 0;
    for (size_t rank = 0; rank < ranks_here(); ++rank)
      bytes += report_.plan.ranks[rank].memory_bytes;
    return bytes;
  }
  // One rank alone and one process on all cores are the same where the rank here has all of them.
  bool are_alike() const {
    return !options_.machines.empty() && cores_.threads == std::ssize(cores_.all);
  }
  Status take_one_for_all() {
    report_.all_cores = report_.one_rank;
    return {};
  }

  Status open_machines();

  Result<std::unique_ptr<RankGroup>> start(
      const Plan& plan, const std::string& name, int threads, std::vector<std::vector<int>> cores,
      std::vector<std::unique_ptr<RankMachine>> machines = {}) {
    RankGroupOptions group;
    group.name = name;
    group.plan = plan;
    group.model_path = options_.model_path;
    group.link = options_.link;
    group.threads = threads;
    if (options_.pin) group.cores = std::move(cores);
    group.isa = options_.isa;
    group.spaces = spaces_.get();
    group.machines = std::move(machines);
    return RankGroup::start(loop_, std::move(group), progress_);
  }
  Result<std::unique_ptr<RankGroup>> start_alone(const Plan& one, bool on_all) {
    if (!on_all) return start(one, "one rank", cores_.threads, {cores_.of_rank[0]});
    return start(one, "one process", static_cast<int>(cores_.all.size()), {cores_.all});
  }

  Status measure_together(const Plan& one) {
    SHOAL_ASSIGN(const auto ranks, start_ranks());
    SHOAL_ASSIGN(const auto single, start_alone(one, false));
    if (are_alike()) {
      SHOAL_TRY(measure_ranks(*ranks, single.get(), nullptr));
      return take_one_for_all();
    }
    SHOAL_ASSIGN(const auto all, start_alone(one, true));
    return measure_ranks(*ranks, single.get(), all.get());
  }

  Status measure_alone(const Plan& one, bool on_all, GroupSpeed& speed) {
    SHOAL_ASSIGN(const auto group, start_alone(one, on_all));
    Turns turns(options_);
    turns.add(*group, speed);
    return turns.run();
  }

  Result<std::unique_ptr<RankGroup>> start_ranks() {
    return start(report_.plan, counted(std::ssize(report_.plan.ranks), "rank"), cores_.threads,
                 cores_.of_rank, std::move(machines_));
  }
  Status measure_only_ranks() {
    SHOAL_ASSIGN(const auto ranks, start_ranks());
    return measure_ranks(*ranks, nullptr, nullptr);
  }
  Status measure_ranks(RankGroup& ranks, RankGroup* single, RankGroup* all) {
    Turns turns(options_);
    turns.add(ranks, report_.ranks);
    if (single != nullptr) turns.add(*single, *report_.one_rank);
    if (all != nullptr) turns.add(*all, *report_.all_cores);
    SHOAL_TRY(turns.run());
    SHOAL_ASSIGN(const std::vector<ShardStats> stats, ranks.fresh_stats());
    for (size_t rank = 0; rank < stats.size(); ++rank) {
      report_.rank_reports.push_back(
          rank_report(report_.plan, static_cast<int>(rank), stats[rank], facts_[rank]));
    }
    return {};
  }

  const BenchRanksOptions& options_;
  const RankGroup::Progress& progress_;
  BenchRanksReport& report_;
  CorePlan cores_;
  RankLoop loop_;
  std::unique_ptr<NetworkNamespaces> spaces_;
  std::vector<std::unique_ptr<RankMachine>> machines_;
  std::vector<MachineFacts> facts_;  // of each rank
};

// Before anything is loaded, so that what cannot be is said at once.
Status BenchRanks::open_machines() {
  facts_.assign(ranks_here(), facts_of_this_machine(report_));
  if (options_.machines.empty()) return {};
  std::string file_here;
  {
    SHOAL_ASSIGN(const gguf::File file, gguf::File::open(options_.model_path));
    SHOAL_ASSIGN(file_here, fingerprint(file));
  }
  for (const MachineCode& code : options_.machines) {
    const auto rank = static_cast<int>(facts_.size());
    SHOAL_ASSIGN(auto machine, RankMachine::open(loop_.io, code, rank));
    const MachineFacts& facts = machine->facts();
    const uint64_t needed = report_.plan.ranks[facts_.size()].memory_bytes;
    if (facts.fingerprint != file_here) {
      return fail(ErrorCode::kConflict,
                  "{} at {} listens with another model file, {}; give it the same file as here, {}",
                  facts.name, facts.address, facts.file, report_.file);
    }
    if (needed > facts.memory_available_bytes) {
      return fail(ErrorCode::kDoesNotFit,
                  "rank {} needs {} and {} are free on {} at {}; --parts gives it less", rank,
                  format_bytes(needed), format_bytes(facts.memory_available_bytes), facts.name,
                  facts.address);
    }
    facts_.push_back(facts);
    machines_.push_back(std::move(machine));
  }
  return {};
}

}  // namespace

MachineFacts facts_of_this_machine(const BenchRanksReport& report) {
  MachineFacts facts;
  facts.name = this_machine();
  facts.isa = isa_name(report.isa);
  facts.threads = report.threads;
  return facts;
}

RankReport rank_report(const Plan& plan, int rank, const ShardStats& stats, MachineFacts machine) {
  RankReport report;
  report.machine = std::move(machine);
  report.rank = rank;
  report.planned = plan.ranks[static_cast<size_t>(rank)];
  report.stats = stats;
  const auto steps = static_cast<double>(std::max<uint64_t>(1, stats.decode_steps));
  report.decode_compute_s = stats.decode_compute_s / steps;
  report.decode_wait_s = stats.decode_wait_s / steps;
  report.decode_bytes_sent = static_cast<double>(stats.decode_bytes_sent) / steps;
  return report;
}

placement::Prediction predict_stage(const BenchRanksReport& report, int stage,
                                    const NodeFacts& node, const LinkModel& link) {
  const placement::GroupLink between{link.latency_s, link.bytes_per_s};
  placement::Stage one;
  size_t next_ranks = 0;
  for (const PlannedRank& rank : report.plan.ranks) {
    if (rank.stage == stage + 1) ++next_ranks;
    if (rank.stage != stage) continue;
    one.card =
        rank.cut.layers.size() > 0 ? card_of_layers(report.model, rank.cut.layers) : report.model;
    one.nodes.push_back(&node);
    one.cuts.push_back(rank.cut);
    one.cuts.back().layers = {};
  }
  if (one.nodes.size() > 1) one.among = between;
  if (report.plan.ranks.back().stage > 0) one.onward = between;
  if (next_ranks > 0) {
    one.onward_copies = static_cast<double>((next_ranks + one.nodes.size() - 1) / one.nodes.size());
  }
  const int64_t history = std::max(placement::kReferencePromptTokens, report.context);
  return placement::predict({&one, 1}, report.plan.kv_type, report.plan.payload, report.batch,
                            history);
}

Result<BenchRanksReport> bench_ranks(const BenchRanksOptions& options,
                                     const RankGroup::Progress& progress) {
  BenchRanksReport report;
  {
    SHOAL_ASSIGN(const gguf::File file, gguf::File::open(options.model_path));
    SHOAL_ASSIGN(const ModelDescription description, describe(file));
    report.model = model_card(file, description);
  }
  SHOAL_TRY(check(options, report.model));
  report.file = options.model_path.substr(options.model_path.find_last_of('/') + 1);
  SHOAL_ASSIGN(report.plan, options.plan_path.empty() ? cut_plan(options, report.model)
                                                      : read_plan(options, report.model));
  SHOAL_ASSIGN(report.isa, choose_isa(options.isa));
  const auto stages = static_cast<size_t>(report.plan.ranks.back().stage) + 1;
  if (!options.link.emulated.empty()) {
    SHOAL_ASSIGN(const LinkModel link, parse_link_model(options.link.emulated));
    report.plan.stage_links.assign(stages, {link.latency_s, link.bytes_per_s});
  } else if (options.link.kind == LinkChoice::Kind::kShm) {
    report.plan.stage_links.assign(stages, kSharedMemory);
  }
  report.link = options.link.text;
  report.pinned = options.pin;
  report.namespaces = options.netns;
  report.on_machines = !options.machines.empty();
  report.prompt_tokens = options.prompt_tokens;
  report.output_tokens = options.output_tokens;
  report.batch = options.batch;
  report.context = options.context;
  report.repeat = options.repeat;
  report.only_rank = options.only_rank;
  if (options.only_rank) {
    SHOAL_TRY(bench_only_rank(options, progress, report));
  } else {
    SHOAL_TRY(BenchRanks(options, progress, report).run());
  }
  return report;
}

}  // namespace shoal::cli
