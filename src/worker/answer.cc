#include "worker/answer.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shoal {

namespace {

constexpr uint32_t kUsualCandidates = 64;  // their size does not matter beside the step's

}  // namespace

Answer::Answer(PreparedRequest prepared, const Tokenizer& tokenizer,
               std::function<void(const Event&)> emit)
    : prepared_(std::move(prepared)),
      tokenizer_(&tokenizer),
      emit_(std::move(emit)),
      detokenizer_(tokenizer, /*begins_text=*/prepared_.request.chat),
      stops_(prepared_.request.stop),
      remembers_(prepared_.request.sampling.active(Sampler::kPenalties) ||
                 prepared_.request.sampling.active(Sampler::kDry)),
      history_(prepared_.request.sampling.dry_sequence_breakers) {}

Want Answer::want() const {
  return prepared_.request.sampling.candidates_suffice(kMostCandidates) ? Want::kCandidates
                                                                        : Want::kLogits;
}

uint32_t Answer::candidate_count() const {
  const int64_t needed = prepared_.request.sampling.candidates_needed().value_or(kUsualCandidates);
  return static_cast<uint32_t>(
      std::clamp<int64_t>(needed, kUsualCandidates, int64_t{kMostCandidates}));
}

void Answer::remember(int32_t token) {
  if (!remembers_) return;
  const bool needs_text = prepared_.request.sampling.active(Sampler::kDry);
  history_.add(token, needs_text ? tokenizer_->token_bytes(token, true) : "");
}

void Answer::admitted(int64_t max_tokens) {
  max_tokens_ = max_tokens;
  started_ = Clock::now();
  for (const int32_t token : prepared_.prompt) remember(token);
  if (!prepared_.request.echo) accept_prompt();
}

void Answer::accept_prompt() {
  if (std::exchange(accepted_, true)) return;
  Event event;
  event.kind = Event::Kind::kAccepted;
  event.prompt_tokens = static_cast<int64_t>(prepared_.prompt.size());
  if (prepared_.request.sampling.sampler_trace > 0) event.sampling_defaults = prepared_.defaults;
  if (prepared_.request.echo) {
    event.prompt_text = tokenizer_->decode(prepared_.prompt, true);
    event.prompt_logprobs = std::move(prompt_logprobs_);
  }
  emit_(event);
}

TokenLogprob Answer::logprob_of(int32_t token, double logprob,
                                const std::vector<std::pair<int32_t, double>>& alternatives) const {
  TokenLogprob result{token, tokenizer_->token_bytes(token, true), logprob, {}};
  for (const auto& [other, value] : alternatives) {
    result.alternatives.push_back({other, tokenizer_->token_bytes(other, true), value, {}});
  }
  return result;
}

bool Answer::scored_prompt(int64_t position, const RowResult& row) {
  if (prompt_logprobs_.empty()) {
    prompt_logprobs_.push_back(
        logprob_of(prepared_.prompt[0], std::numeric_limits<double>::quiet_NaN(), {}));
  }
  const auto next = static_cast<size_t>(position) + 1;
  if (next >= prepared_.prompt.size()) {
    if (max_tokens_ > 0) return false;
    first_token_ = Clock::now();
    accept_prompt();
    complete("length");
    return true;
  }
  const int32_t token = prepared_.prompt[next];
  SamplingParameters greedy;
  greedy.temperature = 0;
  greedy.logprobs = prepared_.request.sampling.logprobs;
  const Sampled best = sample(row.logits, greedy, static_cast<uint64_t>(next));
  const double logprob = row.logits[static_cast<size_t>(token)] - log_sum_exp(row.logits);
  prompt_logprobs_.push_back(logprob_of(token, logprob, best.alternatives));
  return false;
}

bool Answer::ends(int32_t token) const {
  const auto& asked = prepared_.request.stop_tokens;
  if (std::find(asked.begin(), asked.end(), token) != asked.end()) return true;
  if (prepared_.request.ignore_end) return false;
  const auto& ends = tokenizer_->end_tokens();
  return std::find(ends.begin(), ends.end(), token) != ends.end();
}

Sampled Answer::choose(uint64_t position, const RowResult& row) {
  const SamplingParameters& parameters = prepared_.request.sampling;
  // A prompt that is scored returns logits whatever the sampler needs.
  if (!row.logits.empty()) return sample(row.logits, parameters, position, history_);
  return sample(row.candidates, row.log_sum_exp, parameters, position, history_);
}

std::vector<SamplerReport> Answer::reports_of(const std::vector<SamplerStage>& stages) const {
  std::vector<SamplerReport> reports;
  reports.reserve(stages.size());
  for (const SamplerStage& stage : stages) {
    SamplerReport& report = reports.emplace_back();
    report.name = stage.name;
    report.kept = stage.kept;
    for (const SamplerStage::Candidate& one : stage.best) {
      report.best.push_back(
          {one.token, tokenizer_->token_bytes(one.token, true), one.before, one.after});
    }
  }
  return reports;
}

std::optional<int32_t> Answer::sampled(int64_t position, const RowResult& row) {
  if (prepared_.request.echo && prepared_.request.sampling.logprobs >= 0 && !accepted_ &&
      prepared_.prompt.size() == 1) {
    scored_prompt(position, row);  // a prompt of one token has no other row
  }
  accept_prompt();
  if (output_tokens_ == 0) first_token_ = Clock::now();
  const SamplingParameters& parameters = prepared_.request.sampling;
  const Sampled chosen = choose(static_cast<uint64_t>(position) + 1, row);
  remember(chosen.token);

  Event event;
  event.number = output_tokens_++;
  event.token = chosen.token;
  event.samplers = reports_of(chosen.stages);
  const bool ended = ends(chosen.token);
  if (!ended) {
    event.text = stops_.add(detokenizer_.add(chosen.token));
    if (parameters.logprobs >= 0)
      event.logprob = logprob_of(chosen.token, chosen.logprob, chosen.alternatives);
  }
  const bool finished = ended || stops_.stopped() || output_tokens_ >= max_tokens_;
  if (finished && !stops_.stopped()) {
    event.text += stops_.add(detokenizer_.finish());
    event.text += stops_.finish();
  }
  emit_(event);
  if (!finished) return chosen.token;
  complete(ended || stops_.stopped() ? "stop" : "length");
  return std::nullopt;
}

void Answer::complete(std::string reason) {
  Event event;
  event.kind = Event::Kind::kDone;
  event.finish_reason = std::move(reason);
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  event.timings.queue_s = seconds(started_ - prepared_.arrived);
  event.timings.prefill_s = seconds(first_token_ - started_);
  event.timings.decode_s = seconds_since(first_token_);
  event.timings.prompt_tokens = static_cast<int64_t>(prepared_.prompt.size());
  event.timings.output_tokens = output_tokens_;
  emit_(event);
}

void Answer::failed(const Error& error) {
  Event event;
  event.kind = Event::Kind::kError;
  event.error = error;
  emit_(event);
}

}  // namespace shoal
