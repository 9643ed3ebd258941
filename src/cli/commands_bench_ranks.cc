// bench ranks: what several ranks of a model gain, on this machine or with others.
#include <algorithm>
#include <charconv>
#include <iostream>

#include "cli/bench_ranks.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/rank_listener.h"
#include "cli/screen.h"

namespace shoal::cli {
namespace {

// "2:1": positive numbers.
Result<std::vector<double>> parse_parts(std::string_view text) {
  std::vector<double> parts;
  for (std::string_view rest = text;;) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    const std::string_view word = rest.substr(0, colon);
    double part = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), part);
    if (error != std::errc() || end != word.data() + word.size() || !(part > 0) || part > 1e9) {
      return fail(ErrorCode::kInvalidArgument,
                  "--parts takes a positive number for each rank, such as 2:1; '{}' is none", word);
    }
    parts.push_back(part);
    if (colon == rest.size()) return parts;
    rest.remove_prefix(colon + 1);
  }
}

// Of those that a plan may have; a single rank is of one node.
Result<PlanMode> parse_mode(const std::string& name, int ranks) {
  const auto mode = plan_mode_named(name);
  const bool one = mode && *mode == PlanMode::kOneNode && ranks == 1;
  if (mode && (*mode != PlanMode::kOneNode || one)) return mode;
  return fail(ErrorCode::kInvalidArgument,
              "--mode '{}' is no way to divide a model over {} rank{}; tensor, pipeline and hybrid "
              "are",
              name, ranks, ranks == 1 ? "" : "s");
}

Result<BenchRanksOptions> options_of(const Common& common, const BenchRanksArguments& arguments) {
  BenchRanksOptions options;
  if (!arguments.at.empty()) {
    SHOAL_ASSIGN(options.machines, decode_machine_codes(arguments.at));
  }
  const auto machines = static_cast<int>(options.machines.size()) + 1;
  options.ranks = arguments.ranks.value_or(std::max(2, machines));
  if (machines > 1 && options.ranks != machines) {
    return fail(ErrorCode::kInvalidArgument,
                "--ranks {}: with --at there is one on this machine and one per code, {} in all",
                options.ranks, machines);
  }
  SHOAL_ASSIGN(options.mode, parse_mode(arguments.mode, options.ranks));
  SHOAL_ASSIGN(options.link,
               parse_link_choice(arguments.link.value_or(machines > 1 ? "tcp" : "shm")));
  SHOAL_ASSIGN(options.payload, payload_named(arguments.payload));
  if (!arguments.parts.empty()) {
    SHOAL_ASSIGN(options.parts, parse_parts(arguments.parts));
  }
  options.plan_path = arguments.plan_path;
  options.only_rank = arguments.only_rank;
  options.pin = arguments.pin;
  options.netns = arguments.netns;
  options.rate = arguments.rate;
  options.alone = arguments.alone;
  options.prompt_tokens = arguments.prompt_tokens;
  options.output_tokens = common.max_tokens > 0 ? common.max_tokens : arguments.output_tokens;
  options.batch = arguments.batch;
  options.context = common.context > 0 ? common.context : arguments.context;
  options.repeat = arguments.repeat;
  options.threads = common.threads;
  options.isa = common.isa;
  if (!common.kv_type.empty()) {
    SHOAL_ASSIGN(options.kv_type, kv_type_named(common.kv_type));
  }
  SHOAL_ASSIGN(options.model_path, path_of(common, arguments.model));
  return options;
}

// Waits for benches of another machine.
int listen(const Common& common, const BenchRanksArguments& arguments) {
  if (!arguments.at.empty()) {
    return report(common, {ErrorCode::kInvalidArgument,
                           "--listen waits for another machine's bench and --at leads one: give "
                           "one of both"});
  }
  const Result<std::string> path = path_of(common, arguments.model);
  if (!path) return report(common, path.error());
  const auto say = [&](const std::string& sentence) {
    if (!common.quiet) fmt::print(stderr, "{}\n", sentence);
  };
  const auto listener =
      RankListener::start({*path, arguments.listen, common.threads, common.isa}, say);
  if (!listener) return report(common, listener.error());
  const MachineCode& code = (*listener)->code();
  const Json json = {
      {"code", encode(code)}, {"address", code.address}, {"machine", this_machine()}};
  std::cout << (common.json ? dump_json(json) : encode(code)) << std::endl;
  say(
      fmt::format("waiting; on the first machine, with the same file:\n"
                  "  shoal bench ranks {} --at {}\n"
                  "Ctrl-C ends this. Whoever has the code may use this machine's cores till then.",
                  arguments.model, encode(code)));
  (*listener)->run([] { return !interrupted(); });
  return exit_code(ErrorCode::kCancelled);
}

}  // namespace

int bench_ranks_command(const Common& common, const BenchRanksArguments& arguments) {
  catch_ends();
  if (!arguments.listen.empty()) return listen(common, arguments);
  const Result<BenchRanksOptions> options = options_of(common, arguments);
  if (!options) return report(common, options.error());
  Progress progress(common.quiet);
  const auto show = [&](const std::string& phase, uint64_t done, uint64_t total) {
    progress.show(phase, done, total);
    return !interrupted();
  };
  const Result<BenchRanksReport> measured = bench_ranks(*options, show);
  progress.clear();
  if (!measured) return report(common, measured.error());
  std::cout << (common.json ? dump_json(to_json(*measured), 2) + "\n" : to_text(*measured));
  return 0;
}

}  // namespace shoal::cli
