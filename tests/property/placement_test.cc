// Properties of placement over random clusters and models: ranks cover the model once and fit
// memory, a faster link never predicts slower, another node never makes the choice slower.
#include "placement/placement.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>

#include "../unit/models/dense_cut.h"
#include "placement/cost.h"
#include "placement/fit.h"

namespace shoal {
namespace {

// A case takes up to a few milliseconds; what the environment says goes first.
const int kCases = ::setenv("RC_PARAMS", "max_success=300 max_size=300", 0);

ModelCard arbitrary_card() {
  ModelCard card;
  card.name = "random";
  card.architecture = "llama";
  card.layer_count = *rc::gen::inRange<int64_t>(1, 81);
  card.head_dimension = *rc::gen::element<int64_t>(64, 128);
  card.kv_head_count = *rc::gen::inRange<int64_t>(1, 17);
  const auto queries = *rc::gen::inRange<int64_t>(1, 9);
  card.head_count = card.kv_head_count * queries;
  card.hidden = card.head_count * card.head_dimension;
  const int64_t feed_forward = 32 * *rc::gen::inRange<int64_t>(16, 1000);
  const auto vocabulary = *rc::gen::inRange<int64_t>(1000, 200000);
  card.context_length = *rc::gen::inRange<int64_t>(100, 140000);
  card.tied_embedding = *rc::gen::arbitrary<bool>();
  const double weight = *rc::gen::element(0.5625, 0.82, 1.0625, 2.0, 4.0);  // bytes per weight
  const auto bytes = [&](double weights) { return static_cast<uint64_t>(weights * weight); };
  const auto layers = static_cast<double>(card.layer_count);
  const auto hidden = static_cast<double>(card.hidden);
  set_dense_cuts(
      card, feed_forward, vocabulary,
      {bytes(layers * hidden * static_cast<double>(card.head_dimension * (2 * queries + 2))),
       bytes(layers * 3 * hidden), bytes(hidden * (card.tied_embedding ? 1 : 2)), bytes(hidden)},
      static_cast<uint64_t>(card.hidden) * 4);
  card.file_bytes = weight_bytes(card, whole(card));
  return card;
}

// Memory around what the model needs, so that some plans fit and some do not.
Topology arbitrary_topology(const ModelCard& card, int least_nodes) {
  Topology topology;
  const auto count = *rc::gen::inRange(least_nodes, 6);
  const double model = static_cast<double>(card.file_bytes) + 300e6;
  for (int i = 0; i < count; ++i) {
    NodeFacts node;
    node.id = std::string(1, static_cast<char>('a' + i));
    node.name = node.id;
    node.memory_bytes = static_cast<uint64_t>(model * *rc::gen::inRange(5, 150) / 100);
    node.memory_reserved_bytes = static_cast<uint64_t>(*rc::gen::inRange(0, 200'000'000));
    node.read_bytes_per_s = *rc::gen::inRange(1, 900) * 1e9;
    node.multiply_adds_per_s = *rc::gen::inRange(1, 5000) * 1e9;
    topology.nodes.push_back(node);
  }
  for (int i = 0; i < count; ++i) {
    for (int j = i + 1; j < count; ++j) {
      topology.links.push_back({topology.nodes[i].id, topology.nodes[j].id,
                                *rc::gen::inRange(5, 2000) * 1e-6,
                                *rc::gen::inRange(1, 10000) * 1e6});
    }
  }
  return topology;
}

Wish arbitrary_wish(const ModelCard& card) {
  Wish wish;
  wish.context = *rc::gen::element<int64_t>(0, card.context_length / 2,
                                            std::min<int64_t>(card.context_length, 1024));
  wish.sequences = *rc::gen::inRange<int64_t>(1, 9);
  wish.kv_type = *rc::gen::element(KvType::kF16, KvType::kF32, KvType::kQ8_0);
  wish.payload = *rc::gen::element(std::optional<Payload>(), std::optional<Payload>(),
                                   std::optional(Payload::kF32), std::optional(Payload::kInt8));
  return wish;
}

// What plans are chosen by: the time of an answer, with what the planner deems more nodes, and the
// rounding of numbers that travel where it chose it, to cost.
double cost_s(const Placement& placement, const Wish& wish) {
  const Plan& plan = *placement.chosen();
  const double answer_s = plan.time_to_first_token_s +
                          (placement::kReferenceAnswerTokens - 1) / plan.decode_tokens_per_s;
  return answer_s * placement::node_handicap(plan.ranks.size()) *
         (wish.payload ? 1 : placement::payload_handicap(plan.payload));
}

// Stages hold every layer once, and the ranks of each every unit once.
void check_cover(const ModelCard& card, const Plan& plan) {
  const bool by_layers = plan.ranks.back().stage > 0;
  RankCut reached{};
  for (const PlannedRank& rank : plan.ranks) {
    const bool first = &rank == &plan.ranks.front() || rank.stage != (&rank - 1)->stage;
    if (first) {
      RC_ASSERT(rank.stage == (&rank == &plan.ranks.front() ? 0 : (&rank - 1)->stage + 1));
      RC_ASSERT(rank.cut.layers.begin == reached.layers.end);
      RC_ASSERT((rank.cut.layers.size() > 0) == by_layers);
      for (const CutKind kind : kCutKinds)
        RC_ASSERT(reached[kind].end == (rank.stage > 0 ? card[kind].count : 0));
      reached.ranges = {};
    } else {
      RC_ASSERT(rank.cut.layers == reached.layers);
    }
    for (const CutKind kind : kCutKinds) {
      RC_ASSERT(rank.cut[kind].begin == reached[kind].end);
      RC_ASSERT((rank.cut[kind].size() > 0) == (card[kind].count > 0));
    }
    RC_ASSERT(rank.cut[CutKind::kFeedForward].begin % 32 == 0);
    reached = rank.cut;
  }
  for (const CutKind kind : kCutKinds) RC_ASSERT(reached[kind].end == card[kind].count);
  RC_ASSERT(reached.layers.end == (by_layers ? card.layer_count : 0));
}

RC_GTEST_PROP(Placement, RanksCoverEveryUnitOnceAndFitMemory, ()) {
  const ModelCard card = arbitrary_card();
  const Topology topology = arbitrary_topology(card, 1);
  const Wish wish = arbitrary_wish(card);
  const auto placement = place(topology, card, wish);
  RC_CLASSIFY(!placement, "refused");
  for (const PlanMode mode : kPlanModes) {
    RC_CLASSIFY(placement && plan_mode(*placement->chosen()) == mode,
                std::string(plan_mode_words(mode)));
  }
  if (!placement) {
    RC_ASSERT(placement.error().code == ErrorCode::kDoesNotFit);
    return;
  }
  RC_ASSERT(placement->chosen() != nullptr);
  for (const Considered& considered : placement->considered) {
    RC_ASSERT(!considered.reason.empty());
    if (!considered.possible) continue;
    const Plan& plan = considered.plan;
    check_cover(card, plan);
    double share = 0;
    for (const PlannedRank& rank : plan.ranks) {
      share += rank.share;
      RC_ASSERT(rank.memory_bytes >= rank.weight_bytes + rank.kv_bytes);
      RC_ASSERT(rank.weight_bytes == weight_bytes(card, rank.cut));
      for (const NodeFacts& node : topology.nodes) {
        if (node.id == rank.node) RC_ASSERT(rank.memory_bytes <= placement::free_bytes(node));
      }
    }
    RC_ASSERT(std::abs(share - 1) < 1e-9);
    RC_ASSERT(!wish.payload || plan.payload == *wish.payload);
    RC_ASSERT(plan.decode_tokens_per_s > 0 && std::isfinite(plan.decode_tokens_per_s));
    RC_ASSERT(plan.all_decode_tokens_per_s > 0 && std::isfinite(plan.all_decode_tokens_per_s));
    RC_ASSERT(plan.prefill_tokens_per_s > 0 && std::isfinite(plan.prefill_tokens_per_s));
    RC_ASSERT(plan.context >= std::min<int64_t>(512, card.context_length) || wish.context != 0);
    RC_ASSERT(plan.context <= card.context_length);
    RC_ASSERT(plan_from_json(to_json(plan)).has_value());
  }
}

RC_GTEST_PROP(Placement, AFasterLinkNeverPredictsSlower, ()) {
  const ModelCard card = arbitrary_card();
  const Topology topology = arbitrary_topology(card, 2);
  const Wish wish = arbitrary_wish(card);
  Topology faster = topology;
  LinkFacts& link = faster.links[*rc::gen::inRange<size_t>(0, faster.links.size())];
  link.bytes_per_s *= *rc::gen::inRange(1, 50);
  link.round_trip_s /= *rc::gen::inRange(1, 50);
  const auto before = place(topology, card, wish);
  const auto after = place(faster, card, wish);
  RC_ASSERT(before.has_value() == after.has_value());
  if (before) RC_ASSERT(cost_s(*after, wish) <= cost_s(*before, wish));
}

RC_GTEST_PROP(Placement, AnotherNodeNeverMakesTheChoiceSlower, ()) {
  const ModelCard card = arbitrary_card();
  const Topology topology = arbitrary_topology(card, 2);
  const Wish wish = arbitrary_wish(card);
  Topology fewer = topology;
  const std::string gone = fewer.nodes.back().id;
  fewer.nodes.pop_back();
  std::erase_if(fewer.links,
                [&](const LinkFacts& link) { return link.a == gone || link.b == gone; });
  const auto before = place(fewer, card, wish);
  const auto after = place(topology, card, wish);
  if (!before) return;
  RC_ASSERT(after.has_value());
  RC_ASSERT(cost_s(*after, wish) <= cost_s(*before, wish));
}

RC_GTEST_PROP(Placement, MoreMemoryNeverRefusesWhatFitted, ()) {
  const ModelCard card = arbitrary_card();
  const Topology topology = arbitrary_topology(card, 1);
  const Wish wish = arbitrary_wish(card);
  if (!place(topology, card, wish)) return;
  Topology roomier = topology;
  roomier.nodes[*rc::gen::inRange<size_t>(0, roomier.nodes.size())].memory_bytes *= 2;
  RC_ASSERT(place(roomier, card, wish).has_value());
}

// Several sequences together never decode slower than one, and a pipeline of equal nodes gains.
RC_GTEST_PROP(Placement, SequencesTogetherGainWhereStagesWouldWait, ()) {
  const ModelCard card = arbitrary_card();
  const Topology topology = arbitrary_topology(card, 2);
  Wish wish = arbitrary_wish(card);
  wish.sequences = 8;
  const auto placement = place(topology, card, wish);
  if (!placement) return;
  for (const Considered& one : placement->considered) {
    if (one.possible)
      RC_ASSERT(one.plan.all_decode_tokens_per_s >= one.plan.decode_tokens_per_s * (1 - 1e-9));
  }
}

// A value that a stranger might put anywhere in a topology.
Json arbitrary_value() {
  switch (*rc::gen::inRange(0, 10)) {
    case 0:
      return nullptr;
    case 1:
      return *rc::gen::arbitrary<bool>();
    case 2:
      return *rc::gen::arbitrary<int64_t>();
    case 3:
      return UINT64_MAX;
    case 4:
      return *rc::gen::arbitrary<double>();
    case 5:
      return *rc::gen::element(1e300, -1e300, 5e-324, 0.0, -0.0);
    case 6:
      return *rc::gen::arbitrary<std::string>();
    case 7:
      return Json::array({1, "x", nullptr});
    case 8:
      return Json{{"id", 7}};
    default:
      return *rc::gen::inRange(0, 5);
  }
}

RC_GTEST_PROP(Placement, HostileTopologiesAreRefusedInSentencesOrPlanned, ()) {
  const ModelCard card = arbitrary_card();
  Json json = to_json(arbitrary_topology(card, 1));
  for (int spoilt = *rc::gen::inRange(1, 4); spoilt > 0; --spoilt) {
    Json* at = &json;
    // Down to some depth, then something else stands there, or nothing.
    for (int depth = *rc::gen::inRange(0, 9); depth > 0 && at->is_structured() && !at->empty();
         --depth) {
      at =
          &*std::next(at->begin(), *rc::gen::inRange<int64_t>(0, static_cast<int64_t>(at->size())));
    }
    *at = arbitrary_value();
  }
  const auto topology = topology_from_json(json);
  RC_CLASSIFY(!topology, "refused");
  if (!topology) {
    RC_ASSERT(topology.error().message.size() > 10);
    return;
  }
  const auto placement = place(*topology, card, arbitrary_wish(card));
  RC_ASSERT(placement.has_value() || placement.error().message.size() > 10);
  if (placement) RC_ASSERT(std::isfinite(placement->chosen()->decode_tokens_per_s));
}

}  // namespace
}  // namespace shoal
