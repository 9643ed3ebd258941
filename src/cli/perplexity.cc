#include "cli/perplexity.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/cpu.h"
#include "engine/engine.h"
#include "gguf/gguf.h"
#include "kernels/cpu_backend.h"
#include "models/model.h"
#include "placement/placement.h"
#include "sampling/log_sum_exp.h"
#include "tokenizer/tokenizer.h"

namespace shoal::cli {

namespace {

constexpr int64_t kScoredRowsPerStep = 64;  // each brings its whole vocabulary of logits

// The model, open and loaded on this machine alone.
struct Loaded {
  gguf::File file;
  ModelDescription description;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Engine> engine;
};

Result<Loaded> load(gguf::File file, const PerplexityOptions& options) {
  Loaded loaded{.file = std::move(file)};
  SHOAL_ASSIGN(loaded.description, describe(loaded.file));
  SHOAL_ASSIGN(const Isa isa, choose_isa(options.isa));
  loaded.backend =
      make_cpu_backend(isa, options.threads > 0 ? options.threads : usable_core_count());
  const int64_t page_tokens = loaded.backend->page_tokens();
  EngineOptions engine_options;
  engine_options.max_rows = kStepRows;
  engine_options.max_wanted_rows = kScoredRowsPerStep;
  engine_options.max_positions = options.context;
  engine_options.kv_type = options.kv_type;
  engine_options.kv_pages = (options.context + page_tokens - 1) / page_tokens;
  SHOAL_ASSIGN(loaded.engine, Engine::create(loaded.file, loaded.description,
                                             whole(model_card(loaded.file, loaded.description)),
                                             *loaded.backend, Group::alone(), engine_options));
  return loaded;
}

// Adds up the negative log probabilities of the scored tokens.
class Score {
 public:
  void add(std::span<const float> logits, int32_t token) {
    const double nll = log_sum_exp(logits) - logits[static_cast<size_t>(token)];
    sum_ += nll;
    sum_of_squares_ += nll * nll;
    ++count_;
  }
  int64_t count() const { return count_; }
  double perplexity() const { return std::exp(sum_ / static_cast<double>(count_)); }
  double uncertainty() const {
    if (count_ < 2) return 0;
    const auto n = static_cast<double>(count_);
    const double mean = sum_ / n;
    const double variance = std::max(0.0, sum_of_squares_ / n - mean * mean);
    return std::sqrt(variance / (n - 1)) * perplexity();
  }

 private:
  double sum_ = 0;
  double sum_of_squares_ = 0;
  int64_t count_ = 0;
};

// Computes one window in steps. Position p's logits are those of the token at p + 1.
Status score_window(Engine& engine, std::span<const int32_t> window, uint64_t& step_number,
                    Score& score) {
  const auto size = static_cast<int64_t>(window.size());
  const int64_t first_scored = size / 2;
  Step step;
  KvPages pages(engine.kv_groups(), engine.page_tokens());
  SHOAL_TRY(pages.reserve(0, size));
  step.sequences = {pages.tables(0)};
  for (int64_t position = 0; position < size - 1;) {
    step.rows.clear();
    for (int64_t scored = 0; position < size - 1; ++position) {
      const bool wanted = position >= first_scored;
      if (static_cast<int64_t>(step.rows.size()) == kStepRows) break;
      if (wanted && scored == kScoredRowsPerStep) break;
      scored += wanted;
      step.rows.push_back({.sequence = 0,
                           .token = window[static_cast<size_t>(position)],
                           .position = static_cast<int32_t>(position),
                           .role = Role::kPrompt,
                           .want = wanted ? Want::kLogits : Want::kNothing});
    }
    step.number = step_number++;
    SHOAL_TRY(engine.submit(step));
    SHOAL_ASSIGN(const StepResult result, engine.wait());
    for (const RowResult& row : result.rows) {
      const auto next = static_cast<size_t>(step.rows[row.row].position) + 1;
      score.add(row.logits, window[next]);
    }
  }
  return {};
}

// The ids to compute: with BOS in front where the model asks for it, as any prompt without
// template.
Result<std::vector<int32_t>> ids_of(const Tokenizer& tokenizer, std::string_view text) {
  SHOAL_ASSIGN(std::vector<int32_t> ids, tokenizer.encode(text, /*parse_special=*/false));
  if (tokenizer.adds_bos() && tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

Status check(const PerplexityOptions& options, int64_t trained, int64_t tokens) {
  if (options.context < 4 || options.context > trained) {
    return fail(ErrorCode::kInvalidArgument,
                "windows of {} tokens; they must be from 4 to {}, the model's trained context",
                options.context, trained);
  }
  if (tokens < options.context) {
    return fail(ErrorCode::kInvalidArgument,
                "the text has {} tokens, and one window is {}; give a longer text or a smaller "
                "--context",
                tokens, options.context);
  }
  return {};
}

}  // namespace

Json to_json(const PerplexityResult& result) {
  return {{"perplexity", result.perplexity},
          {"perplexity_uncertainty", result.uncertainty},
          {"tokens", result.tokens},
          {"scored_tokens", result.scored_tokens},
          {"windows", result.windows},
          {"context", result.context},
          {"tokens_per_s", result.tokens_per_s}};
}

Result<PerplexityResult> perplexity(const PerplexityOptions& options,
                                    const PerplexityProgress& progress) {
  SHOAL_ASSIGN(gguf::File file, gguf::File::open(options.model_path));
  SHOAL_ASSIGN(const Tokenizer tokenizer, Tokenizer::from_gguf(file));
  SHOAL_ASSIGN(std::vector<int32_t> ids, ids_of(tokenizer, options.text));
  SHOAL_ASSIGN(const ModelDescription description, describe(file));
  SHOAL_TRY(check(options, description.context_length, static_cast<int64_t>(ids.size())));
  SHOAL_ASSIGN(Loaded loaded, load(std::move(file), options));

  const auto start = Clock::now();
  PerplexityResult result{.tokens = static_cast<int64_t>(ids.size()), .context = options.context};
  result.windows = result.tokens / options.context;
  Score score;
  uint64_t step_number = 1;
  for (int64_t w = 0; w < result.windows; ++w) {
    const auto window = std::span(ids).subspan(static_cast<size_t>(w * options.context),
                                               static_cast<size_t>(options.context));
    if (tokenizer.adds_bos() && tokenizer.bos()) window[0] = *tokenizer.bos();
    SHOAL_TRY(score_window(*loaded.engine, window, step_number, score));
    if (progress && !progress(w + 1, result.windows, score.perplexity())) {
      return fail(ErrorCode::kCancelled, "stopped after {} of {} windows", w + 1, result.windows);
    }
  }
  result.scored_tokens = score.count();
  result.perplexity = score.perplexity();
  result.uncertainty = score.uncertainty();
  result.tokens_per_s =
      static_cast<double>(result.windows * options.context) / seconds_since(start);
  return result;
}

}  // namespace shoal::cli
