#include "cli/bench.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "base/clock.h"
#include "base/counted.h"
#include "base/units.h"
#include "engine/engine.h"
#include "gguf/gguf.h"
#include "kernels/cpu_backend.h"
#include "kernels/probe.h"

namespace shoal::cli {

namespace {

int64_t most(const std::vector<int64_t>& counts) {
  return *std::ranges::max_element(counts);
}

// The longest that a sequence gets, of prompts and of decoding ones.
int64_t longest_prompt(const BenchOptions& options) {
  return most(options.prompt_tokens);
}
int64_t longest_decode(const BenchOptions& options) {
  return most(options.contexts) + most(options.output_tokens);
}

Status check(const BenchOptions& options, const ModelDescription& description) {
  const int64_t trained = description.context_length;
  if (longest_prompt(options) > trained) {
    return fail(ErrorCode::kInvalidArgument,
                "--prompt-tokens {} is longer than the model's trained context of {} tokens",
                longest_prompt(options), trained);
  }
  if (longest_decode(options) > trained) {
    return fail(ErrorCode::kInvalidArgument,
                "--context {} and --output-tokens {} together are longer than the model's trained "
                "context of {} tokens",
                most(options.contexts), most(options.output_tokens), trained);
  }
  return {};
}

// Said before anything is loaded: a model that is too big would fill the memory first.
Status check_memory(const BenchOptions& options, const ModelCard& card) {
  const RankCut cut = whole(card);
  const auto kv_of = [&](int64_t positions, int64_t sequences) {
    const uint64_t one = kv_bytes(card, cut, options.kv_type, positions, kBenchRowsPerStep);
    uint64_t all = 0;
    const bool over = __builtin_mul_overflow(one, static_cast<uint64_t>(sequences), &all);
    return over ? uint64_t{1} << 60 : all;
  };
  const uint64_t weights = weight_bytes(card, cut);
  const uint64_t kv = std::max(kv_of(longest_prompt(options), 1),
                               kv_of(longest_decode(options), most(options.batches)));
  const uint64_t available = memory_available_bytes();
  if (weights + kv <= available) return {};
  return fail(ErrorCode::kDoesNotFit,
              "{} needs {} for its weights and {} for a KV cache of {} of {}, and "
              "{} are free; lower --batch or --context, or take a smaller model",
              options.model_path, format_bytes(weights), format_bytes(kv),
              counted(most(options.batches), "sequence"),
              counted(std::max(longest_prompt(options), longest_decode(options)), "token"),
              format_bytes(available));
}

EngineOptions engine_options(const BenchOptions& options, int64_t page_tokens) {
  const auto pages = [&](int64_t positions) { return (positions + page_tokens - 1) / page_tokens; };
  EngineOptions engine;
  engine.max_rows = kBenchRowsPerStep;
  engine.max_wanted_rows = most(options.batches);
  engine.max_positions = std::max(longest_prompt(options), longest_decode(options));
  engine.kv_type = options.kv_type;
  engine.sequences = most(options.batches);
  engine.kv_pages = std::max(pages(longest_prompt(options)),
                             most(options.batches) * pages(longest_decode(options)));
  return engine;
}

// Measures each prefill and each decode once, however many combinations hold it.
class Combinations {
 public:
  Combinations(const BenchOptions& options, BenchReport& report, BenchRuns& runs,
               const BenchProgress& progress)
      : options_(options), report_(report), runs_(runs), progress_(progress) {}

  Status run() {
    for (const int64_t tokens : options_.prompt_tokens) SHOAL_TRY(measure_prefill(tokens));
    // Rising contexts: what one has filled the next goes on from.
    std::vector<int64_t> contexts = options_.contexts;
    std::ranges::sort(contexts);
    for (const int64_t batch : options_.batches) {
      for (const int64_t context : contexts) {
        for (const int64_t tokens : options_.output_tokens)
          SHOAL_TRY(measure_decode(batch, context, tokens));
      }
    }
    list_results();
    return {};
  }

 private:
  struct Limited {
    BenchSpeed speed;
    double limit = 0;  // what the probe reached beside it
  };
  struct DecodeKey {
    int64_t batch, context, tokens;
    auto operator<=>(const DecodeKey&) const = default;
  };

  Status say(const std::string& phase) {
    if (progress_(phase, 0, 0)) return {};
    return fail(ErrorCode::kCancelled, "stopped");
  }

  // The faster of a probe before and a probe after: others on the machine only slow it down.
  Status measure_prefill(int64_t tokens) {
    if (prefills_.contains(tokens)) return {};
    SHOAL_TRY(say("prefill of " + counted(tokens, "token")));
    Limited& one = prefills_[tokens];
    const PeakRate before = peak_rate(report_.isa, report_.threads, options_.probe_s);
    SHOAL_ASSIGN(one.speed, runs_.prefill(tokens));
    const PeakRate after = peak_rate(report_.isa, report_.threads, options_.probe_s);
    one.limit = std::max(before.multiply_adds_per_s, after.multiply_adds_per_s);
    report_.peak_numbers = after.numbers;
    return {};
  }

  Status measure_decode(int64_t batch, int64_t context, int64_t tokens) {
    const DecodeKey key = {batch, context, tokens};
    if (decodes_.contains(key)) return {};
    if (context > 0) {
      SHOAL_TRY(say(fmt::format("filling {} of cache", counted(batch * context, "token"))));
      SHOAL_TRY(runs_.fill(batch, context));
    }
    SHOAL_TRY(say(fmt::format("decode of {}, batch {}, context {}", counted(tokens, "token"), batch,
                              context)));
    Limited& one = decodes_[key];
    const double before = read_bandwidth(report_.isa, report_.threads, options_.probe_s);
    SHOAL_ASSIGN(one.speed, runs_.decode(batch, context, tokens));
    const double after = read_bandwidth(report_.isa, report_.threads, options_.probe_s);
    one.limit = std::max(before, after);
    return {};
  }

  void list_results() {
    for (const int64_t prompt : options_.prompt_tokens) {
      for (const int64_t batch : options_.batches) {
        for (const int64_t context : options_.contexts) {
          for (const int64_t output : options_.output_tokens) {
            const Limited& prefill = prefills_[prompt];
            const Limited& decode = decodes_[{batch, context, output}];
            report_.results.push_back({.prompt_tokens = prompt,
                                       .output_tokens = output,
                                       .batch = batch,
                                       .context = context,
                                       .prefill = prefill.speed,
                                       .decode = decode.speed,
                                       .probe_read_bytes_per_s = decode.limit,
                                       .peak_multiply_adds_per_s = prefill.limit});
          }
        }
      }
    }
  }

  const BenchOptions& options_;
  BenchReport& report_;
  BenchRuns& runs_;
  const BenchProgress& progress_;
  std::map<int64_t, Limited> prefills_;
  std::map<DecodeKey, Limited> decodes_;
};

}  // namespace

Result<std::vector<int64_t>> parse_counts(std::string_view flag, std::string_view text,
                                          int64_t lowest, int64_t highest) {
  std::vector<int64_t> counts;
  for (std::string_view rest = text;;) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view word = rest.substr(0, comma);
    int64_t count = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), count);
    const bool number = error != std::errc::invalid_argument && end == word.data() + word.size();
    if (!number) {
      return fail(ErrorCode::kInvalidArgument,
                  "{} takes whole numbers with commas between, such as 128,512; '{}' is none", flag,
                  word);
    }
    if (error == std::errc::result_out_of_range || count < lowest || count > highest) {
      return fail(ErrorCode::kInvalidArgument, "{} {}: it must be from {} to {}", flag, word,
                  lowest, highest);
    }
    counts.push_back(count);
    if (comma == rest.size()) return counts;
    rest.remove_prefix(comma + 1);
  }
}

Result<BenchReport> bench(const BenchOptions& options, const BenchProgress& progress) {
  SHOAL_ASSIGN(const gguf::File file, gguf::File::open(options.model_path));
  SHOAL_ASSIGN(const ModelDescription description, describe(file));
  BenchReport report;
  report.file = options.model_path.substr(options.model_path.find_last_of('/') + 1);
  report.model = model_card(file, description);
  SHOAL_TRY(check(options, description));
  SHOAL_TRY(check_memory(options, report.model));
  SHOAL_ASSIGN(report.isa, choose_isa(options.isa));
  report.threads = options.threads > 0 ? options.threads : usable_core_count();
  report.kv_type = options.kv_type;
  report.repeat = options.repeat;

  const auto backend = make_cpu_backend(report.isa, report.threads);
  bool carry_on = true;
  const auto show_loading = [&](uint64_t done, uint64_t total) {
    carry_on = carry_on && progress("loading", done, total);
  };
  const auto start = Clock::now();
  SHOAL_ASSIGN(const auto engine,
               Engine::create(file, description, whole(report.model), *backend, Group::alone(),
                              engine_options(options, backend->page_tokens()), show_loading));
  report.load_s = seconds_since(start);
  report.load_bytes_per_s =
      static_cast<double>(report.model.file_bytes) / std::max(report.load_s, 1e-9);
  report.memory = engine->memory();
  if (!carry_on) return fail(ErrorCode::kCancelled, "stopped");

  std::string phase;
  BenchRuns runs(*engine, *backend, description.vocabulary_size, options.repeat, options.profile,
                 [&] { return progress(phase, 0, 0); });
  const BenchProgress keep_phase = [&](const std::string& next, uint64_t done, uint64_t total) {
    phase = next;
    return progress(phase, done, total);
  };
  SHOAL_TRY(Combinations(options, report, runs, keep_phase).run());
  return report;
}

}  // namespace shoal::cli
