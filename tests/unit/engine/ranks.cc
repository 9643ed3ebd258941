#include "ranks.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <future>
#include <random>

#include "kernels/cpu_backend.h"

namespace shoal {

std::vector<Group> connected_groups(int size) {
  const auto count = static_cast<size_t>(size);
  std::vector<std::vector<std::unique_ptr<Link>>> links(count);
  for (auto& row : links) row.resize(count);
  const Deadline deadline = Clock::now() + std::chrono::seconds(20);
  for (size_t a = 0; a < count; ++a) {
    for (size_t b = a + 1; b < count; ++b) {
      auto sockets = connected_tcp_pair();
      SHOAL_CHECK(sockets.has_value());
      // Both ends greet each other before either returns.
      auto other = std::async(std::launch::async, [&] {
        return make_tcp_link(std::move(sockets->second), LinkMode::kPlain, false, {},
                             fmt::format("rank {}", a), deadline);
      });
      auto one = make_tcp_link(std::move(sockets->first), LinkMode::kPlain, true, {},
                               fmt::format("rank {}", b), deadline);
      links[b][a] = other.get().value();
      links[a][b] = std::move(one).value();
    }
  }
  std::vector<Group> groups;
  for (size_t rank = 0; rank < count; ++rank) {
    groups.emplace_back(static_cast<int>(rank), std::move(links[rank]));
  }
  return groups;
}

namespace {

Result<std::vector<RankCut>> cuts_of(const SmallModel& model, const RanksOptions& options) {
  if (options.stages.empty()) return partition(model.card, options.shares);
  SHOAL_ASSIGN(const auto layers,
               partition_layers(model.card, std::vector<double>(options.stages.size(), 1)));
  std::vector<RankCut> all;
  for (size_t stage = 0; stage < layers.size(); ++stage) {
    SHOAL_ASSIGN(auto cuts, partition(model.card, options.stages[stage]));
    for (RankCut& cut : cuts) {
      cut.layers = layers[stage];
      all.push_back(cut);
    }
  }
  return all;
}

}  // namespace

Result<std::unique_ptr<Ranks>> Ranks::start(const SmallModel& model, const RanksOptions& options) {
  SHOAL_ASSIGN(auto cuts, cuts_of(model, options));
  const size_t size = cuts.size();
  auto groups = options.connect(static_cast<int>(size));
  std::unique_ptr<Ranks> ranks(new Ranks);
  ranks->options_ = options.engine;
  if (ranks->options_.max_positions == 0) {
    ranks->options_.max_positions = model.description.context_length;
  }
  ranks->backends_.resize(size);
  ranks->engines_.resize(size);
  ranks->programs_.resize(size);
  ranks->outcomes_.resize(size);
  const auto create = [&](size_t rank) -> Status {
    EngineOptions engine_options = options.engine;
    RankCut cut = cuts[rank];
    const int number = static_cast<int>(rank);
    if (options.change) options.change(number, engine_options, cut);
    const SmallModel& own = options.model_of ? *options.model_of(number) : model;
    ranks->backends_[rank] = make_cpu_backend(options.isa, options.threads);
    if (options.wrap) {
      ranks->backends_[rank] = options.wrap(number, std::move(ranks->backends_[rank]));
    }
    SHOAL_ASSIGN(ranks->programs_[rank],
                 build_program(own.description, cut, ranks->options_.max_positions));
    SHOAL_ASSIGN(ranks->engines_[rank],
                 Engine::create(own.file, own.description, cut, *ranks->backends_[rank],
                                std::move(groups[rank]), engine_options));
    return {};
  };
  // Everybody forms on a thread of its own, then the others go on to follow.
  std::vector<std::thread> forming;
  for (size_t rank = 1; rank < size; ++rank) {
    forming.emplace_back([&, rank] { ranks->outcomes_[rank] = create(rank); });
  }
  const Status formed = create(0);
  for (std::thread& thread : forming) thread.join();
  if (!formed) return std::unexpected(formed.error());
  for (size_t rank = 1; rank < size; ++rank) {
    if (!ranks->outcomes_[rank]) return std::unexpected(ranks->outcomes_[rank].error());
  }
  for (size_t rank = 1; rank < size; ++rank) {
    ranks->threads_.emplace_back(
        [&ranks = *ranks, rank, options] { ranks.follow(static_cast<int>(rank), options); });
  }
  return ranks;
}

void Ranks::follow(int rank, const RanksOptions& options) {
  const auto index = static_cast<size_t>(rank);
  if (options.instead) {
    options.instead(rank, engines_[index]);
    return;
  }
  while (true) {
    const auto followed = engines_[index]->follow(Clock::now() + std::chrono::seconds(60));
    if (!followed) {
      outcomes_[index] = std::unexpected(followed.error());
      return;
    }
    if (*followed == Engine::Followed::kStop) return;
  }
}

std::vector<Status> Ranks::join() {
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  return outcomes_;
}

Ranks::~Ranks() {
  // A failed stop ends the lead's links, which ends the others.
  if (!engines_.empty() && engines_[0] && !engines_[0]->stop()) engines_[0].reset();
  join();
}

std::vector<std::vector<float>> Ranks::hidden(int64_t wanted) {
  std::vector<std::vector<float>> result;
  for (size_t rank = 0; rank < backends_.size(); ++rank) {
    const auto rows = backends_[rank]->rows(programs_[rank].hidden, 0, wanted);
    result.emplace_back(rows.begin(), rows.end());
  }
  return result;
}

Status Ranks::submit(Step& step) {
  step.number = next_number_;
  SHOAL_TRY(lead().submit(step));
  ++next_number_;
  return {};
}

Result<StepResult> Ranks::run(Step& step) {
  SHOAL_TRY(submit(step));
  return lead().wait();
}

Result<std::vector<Generated>> serve(Ranks& ranks, const std::vector<Wanted>& requests,
                                     int64_t rows_per_step) {
  const EngineOptions& options = ranks.options();
  Scheduler scheduler({.context = options.max_positions,
                       .rows_per_step = rows_per_step,
                       .sequences = 8,
                       .waiting = static_cast<int64_t>(requests.size()),
                       .wanted_rows = options.max_wanted_rows,
                       .steps_at_once = ranks.lead().steps_at_once()},
                      KvPages(ranks.lead().kv_groups(), ranks.lead().page_tokens()));
  std::vector<Generated> generated(requests.size());
  for (size_t id = 0; id < requests.size(); ++id) {
    SHOAL_TRY(scheduler.add({.id = id,
                             .prompt = requests[id].prompt,
                             .max_tokens = requests[id].count,
                             .want = Want::kLogits}));
  }
  std::deque<std::vector<ScheduledRow>> in_flight;
  while (true) {
    std::optional<ScheduledStep> scheduled;
    if (static_cast<int>(in_flight.size()) < ranks.lead().steps_at_once())
      scheduled = scheduler.next();
    if (scheduled) {
      SHOAL_TRY(ranks.submit(scheduled->step));
      in_flight.push_back(std::move(scheduled->wanted));
      continue;
    }
    if (in_flight.empty()) return generated;
    SHOAL_ASSIGN(StepResult result, ranks.lead().wait());
    const std::vector<ScheduledRow> wanted = std::move(in_flight.front());
    in_flight.pop_front();
    for (size_t i = 0; i < result.rows.size(); ++i) {
      const SequenceId id = wanted[i].sequence;
      auto& [tokens, logits] = generated[id];
      tokens.push_back(sample(result.rows[i].logits, {.temperature = 0}, 0).token);
      logits.push_back(std::move(result.rows[i].logits));
      scheduler.accept(id, tokens.back());
      if (static_cast<int64_t>(tokens.size()) == requests[id].count) scheduler.remove(id);
    }
  }
}

Result<std::vector<std::vector<float>>> logits_at(Ranks& ranks, const std::vector<int32_t>& prompt,
                                                  const std::vector<int64_t>& positions,
                                                  int64_t chunk) {
  std::vector<std::vector<float>> logits;
  const auto size = static_cast<int64_t>(prompt.size());
  for (int64_t begin = 0; begin < size; begin += chunk) {
    Step step;
    for (int64_t position = begin; position < std::min(begin + chunk, size); ++position) {
      const bool wanted = std::ranges::find(positions, position) != positions.end();
      step.rows.push_back({.sequence = 0,
                           .token = prompt[static_cast<size_t>(position)],
                           .position = static_cast<int32_t>(position),
                           .role = Role::kPrompt,
                           .want = wanted ? Want::kLogits : Want::kNothing});
    }
    KvPages pages(ranks.lead().kv_groups(), ranks.lead().page_tokens());
    SHOAL_TRY(pages.reserve(0, std::min(begin + chunk, size)));  // the same every time, but longer
    step.sequences.push_back(pages.tables(0));
    SHOAL_ASSIGN(StepResult result, ranks.run(step));
    for (RowResult& row : result.rows) logits.push_back(std::move(row.logits));
  }
  return logits;
}

std::vector<int32_t> some_tokens(int64_t count, int64_t vocabulary, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary)));
  }
  return tokens;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace shoal
