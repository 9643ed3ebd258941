// bench ranks: what several ranks of a model gain on this machine.
#include <charconv>
#include <iostream>

#include "cli/bench_ranks.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
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

Result<BenchRanksOptions> options_of(const Common& common, const BenchRanksArguments& arguments) {
  BenchRanksOptions options;
  options.ranks = arguments.ranks;
  SHOAL_ASSIGN(options.mode, plan_mode_named(arguments.mode));
  SHOAL_ASSIGN(options.link, parse_link_choice(arguments.link));
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

}  // namespace

int bench_ranks_command(const Common& common, const BenchRanksArguments& arguments) {
  catch_ends();
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
