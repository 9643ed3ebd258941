// bench: measures a model on this machine alone, without a daemon.
#include <iostream>

#include "base/units.h"
#include "cli/bench.h"
#include "cli/bench_text.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/screen.h"

namespace shoal::cli {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;

Status read_list(std::string_view flag, const std::optional<std::string>& text, int64_t lowest,
                 int64_t highest, std::vector<int64_t>& counts) {
  if (!text) return {};
  SHOAL_ASSIGN(counts, parse_counts(flag, *text, lowest, highest));
  return {};
}

Result<BenchOptions> options_of(const Common& common, const BenchArguments& arguments) {
  BenchOptions options;
  // Given before the command's name, the flags of every command.
  if (common.context > 0) options.contexts = {common.context};
  if (common.max_tokens > 0) options.output_tokens = {common.max_tokens};
  SHOAL_TRY(
      read_list("--prompt-tokens", arguments.prompt_tokens, 1, kMostTokens, options.prompt_tokens));
  SHOAL_TRY(
      read_list("--output-tokens", arguments.output_tokens, 1, kMostTokens, options.output_tokens));
  SHOAL_TRY(read_list("--batch", arguments.batches, 1, kBenchRowsPerStep, options.batches));
  SHOAL_TRY(read_list("--context", arguments.contexts, 0, kMostTokens, options.contexts));
  if (!common.kv_type.empty()) {
    SHOAL_ASSIGN(options.kv_type, kv_type_named(common.kv_type));
  }
  options.repeat = arguments.repeat;
  options.threads = common.threads;
  options.isa = common.isa;
  options.profile = arguments.profile;
  SHOAL_ASSIGN(options.model_path, path_of(common, arguments.model));
  return options;
}

}  // namespace

int bench_command(const Common& common, const BenchArguments& arguments) {
  catch_interrupts();
  const Result<BenchOptions> options = options_of(common, arguments);
  if (!options) return report(common, options.error());
  Progress progress(common.quiet);
  const auto show = [&](const std::string& phase, uint64_t done, uint64_t total) {
    progress.show(phase, done, total);
    return !interrupted();
  };
  const Result<BenchReport> measured = bench(*options, show);
  progress.clear();
  if (!measured) return report(common, measured.error());
  std::cout << (common.json ? dump_json(to_json(*measured), 2) + "\n" : to_text(*measured));
  return 0;
}

}  // namespace shoal::cli
