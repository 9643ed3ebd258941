#include "cli/rank_alone.h"

#include <deque>

#include "engine/agreement.h"
#include "engine/results.h"
#include "engine/stages.h"
#include "engine/step_header.h"
#include "transport/emulated.h"

namespace shoal::cli {
namespace {

// What ranks of the last stage would tell the lead: candidates of logits that are all zero.
Bytes answer_of(const Step& step, Range vocabulary) {
  const auto wanted = static_cast<size_t>(std::ranges::count_if(
      step.rows, [](const StepRow& row) { return row.want != Want::kNothing; }));
  const std::vector<float> zeros(wanted * static_cast<size_t>(vocabulary.size()));
  Bytes message;
  ResultPacker().pack(step, zeros, vocabulary, message);
  return message;
}

// Feeds the imagined peers what an engine needs to hear of them.
class RankAlone final : public Engine {
 public:
  RankAlone(std::vector<PhantomLink*> peers, std::vector<Range> vocabularies, Stage last)
      : peers_(std::move(peers)), vocabularies_(std::move(vocabularies)), last_(last) {}
  void take(std::unique_ptr<Engine> engine) { engine_ = std::move(engine); }

  Status submit(const Step& step) override {
    if (leads()) {
      answer(step);
      return engine_->submit(step);
    }
    Bytes header;
    encode_step(step, header);
    peers_[0]->feed(std::move(header));
    const auto start = Clock::now();
    SHOAL_TRY(engine_->follow(Clock::now() + std::chrono::minutes(10)));
    StepResult& result = finished_.emplace_back();
    result.number = step.number;
    result.compute_s = seconds_since(start);
    return {};
  }
  int steps_at_once() const override { return leads() ? engine_->steps_at_once() : 1; }
  int steps_in_flight() const override {
    return leads() ? engine_->steps_in_flight() : static_cast<int>(finished_.size());
  }
  Result<std::optional<StepResult>> poll() override {
    if (leads()) return engine_->poll();
    if (finished_.empty()) return std::nullopt;
    return take_oldest();
  }
  Result<StepResult> wait() override {
    if (leads()) return engine_->wait();
    return take_oldest();
  }
  Status tick() override { return {}; }
  Status stop() override { return {}; }
  Result<Followed> follow(Deadline) override {
    return fail(ErrorCode::kInternal, "a rank alone follows nobody");
  }

  int page_tokens() const override { return engine_->page_tokens(); }
  const std::vector<KvGroup>& kv_groups() const override { return engine_->kv_groups(); }
  BackendMemory memory() const override { return engine_->memory(); }
  Totals totals() const override { return engine_->totals(); }
  const Group& group() const override { return engine_->group(); }

 private:
  bool leads() const { return peers_[0] == nullptr; }
  void answer(const Step& step) {
    if (!needs_vocabulary(step)) return;
    for (int rank = std::max(1, last_.first_rank); rank <= last_.last_rank(); ++rank) {
      const auto index = static_cast<size_t>(rank);
      peers_[index]->feed(answer_of(step, vocabularies_[index]));
    }
  }
  StepResult take_oldest() {
    StepResult result = std::move(finished_.front());
    finished_.pop_front();
    return result;
  }

  std::vector<PhantomLink*> peers_;  // owned by the engine's group; null for this rank
  std::vector<Range> vocabularies_;
  Stage last_;
  std::unique_ptr<Engine> engine_;
  std::deque<StepResult> finished_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_rank_alone(
    const gguf::File& file, const ModelDescription& description, const Plan& plan, int rank,
    Backend& backend, const EngineOptions& options, const LinkModel& link,
    const std::function<void(uint64_t, uint64_t)>& progress) {
  std::vector<RankCut> cuts;
  std::vector<Range> vocabularies;
  for (const PlannedRank& one : plan.ranks) {
    cuts.push_back(one.cut);
    vocabularies.push_back(one.cut[CutKind::kVocabulary]);
  }
  SHOAL_ASSIGN(const auto stages, stages_of(cuts, description));
  SHOAL_ASSIGN(const std::string digest, fingerprint(file));
  std::vector<std::unique_ptr<Link>> links(cuts.size());
  std::vector<PhantomLink*> peers(cuts.size());
  for (size_t other = 0; other < cuts.size(); ++other) {
    if (static_cast<int>(other) == rank) continue;
    auto phantom = make_phantom_link(link, fmt::format("rank {}", other), other + 1);
    const std::string text = agreement_text(digest, cuts[other], options, backend.page_tokens());
    const auto bytes = as_bytes(text);
    phantom->feed(Bytes(bytes.begin(), bytes.end()));
    phantom->feed({});  // it has loaded
    peers[other] = phantom.get();
    links[other] = std::move(phantom);
  }
  Group group(rank, std::move(links));
  group.set_link_cost({link.latency_s, link.bytes_per_s});
  auto alone =
      std::make_unique<RankAlone>(std::move(peers), std::move(vocabularies), stages.back());
  SHOAL_ASSIGN(auto engine, Engine::create(file, description, cuts[static_cast<size_t>(rank)],
                                           backend, std::move(group), options, progress));
  alone->take(std::move(engine));
  return alone;
}

}  // namespace shoal::cli
