// What links cost and what the planner makes of them: the theory's figures for known links and
// model shapes are the judge.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "cards.h"
#include "placement/cost.h"

namespace shoal {
namespace {

using testing::HasSubstr;

struct KnownLink {
  const char* name;
  double one_way_s;
  double bytes_per_s;
};
constexpr KnownLink kWifi{"Wi-Fi", 2e-3, 37.5e6};
constexpr KnownLink k1Gbe{"1 GbE", 70e-6, 117.5e6};
constexpr KnownLink k2Gbe{"2.5 GbE", 45e-6, 293.75e6};
constexpr KnownLink k10Gbe{"10 GbE", 25e-6, 1175e6};
constexpr KnownLink kTb4{"TB4 IP", 65e-6, 2e9};
constexpr KnownLink kTb5{"TB5 RDMA", 6.3e-6, 4.3e9};
constexpr KnownLink kRoce{"RoCE100", 3e-6, 11.9e9};

// Llama shapes at 0.595 bytes per weight, as Q4_K_M comes to.
struct Shape {
  const char* name;
  int64_t layers, hidden, heads, kv_heads, head_dimension, feed_forward;
  bool tied;
};
constexpr Shape k1B{"1B", 16, 2048, 32, 8, 64, 8192, true};
constexpr Shape k8B{"8B", 32, 4096, 32, 8, 128, 14336, false};
constexpr Shape k70B{"70B", 80, 8192, 64, 8, 128, 28672, false};

ModelCard card_of(const Shape& shape) {
  constexpr double kBytes = 0.595;
  constexpr int64_t kVocabulary = 128256;
  ModelCard card;
  card.name = shape.name;
  card.architecture = "llama";
  card.layer_count = shape.layers;
  card.hidden = shape.hidden;
  card.head_count = shape.heads;
  card.kv_head_count = shape.kv_heads;
  card.head_dimension = shape.head_dimension;
  card.context_length = 8192;
  card.tied_embedding = shape.tied;
  const auto bytes = [](int64_t weights) {
    return static_cast<uint64_t>(static_cast<double>(weights) * kBytes);
  };
  const int64_t queries = shape.heads / shape.kv_heads;
  const uint64_t row = bytes(shape.hidden);
  set_dense_cuts(card, shape.feed_forward, kVocabulary,
                 {bytes(shape.layers * shape.hidden * shape.head_dimension * (2 * queries + 2)),
                  bytes(shape.layers * 3 * shape.hidden), shape.tied ? row : 2 * row, row},
                 static_cast<uint64_t>(shape.hidden) * 4);
  card.file_bytes = weight_bytes(card, whole(card));
  card.parameter_count = static_cast<uint64_t>(static_cast<double>(card.file_bytes) / kBytes);
  return card;
}

struct Machine {
  double weights_per_s;  // bytes, in decode
  double multiply_adds_per_s;
};
constexpr Machine kDesktop{80e9, 1.5e12};
constexpr Machine kStudio{819e9, 1.3e13};

NodeFacts node_of(const Machine& machine, const std::string& name, double memory_gb = 64) {
  NodeFacts facts = node(name, memory_gb);
  facts.read_bytes_per_s = facts.decode_bytes_per_s = machine.weights_per_s;
  facts.multiply_adds_per_s = machine.multiply_adds_per_s;
  return facts;
}

void add_link(Topology& topology, const std::string& a, const std::string& b,
              const KnownLink& known) {
  topology.links.push_back(link(a, b, 2 * known.one_way_s, known.bytes_per_s));
}

// So many of a kind, all linked alike: "a", "b", ...
Topology alike(const Machine& machine, int count, const KnownLink& known, double memory_gb = 64) {
  Topology topology;
  for (int i = 0; i < count; ++i) {
    topology.nodes.push_back(
        node_of(machine, std::string(1, static_cast<char>('a' + i)), memory_gb));
    for (int j = 0; j < i; ++j)
      add_link(topology, topology.nodes[static_cast<size_t>(j)].id, topology.nodes.back().id,
               known);
  }
  return topology;
}

std::string choice_of(const Placement& placement) {
  const Plan& plan = *placement.chosen();
  return fmt::format("{} {} {}", plan_mode_name(plan_mode(plan)), plan.ranks.size(),
                     payload_name(plan.payload));
}

// Per token of a 70 B model, 160 sums of 8192 numbers over two ranks, in milliseconds.
TEST(Links, SumsOfATokenTakeWhatTheTheorySays) {
  const struct {
    KnownLink link;
    std::array<double, 3> ms;  // f32, bf16, int8
  } cases[] = {{kWifi, {460, 390, 357}},  {k1Gbe, {56, 34, 23}},    {k2Gbe, {25, 16, 12}},
               {k10Gbe, {8.5, 6.2, 5.2}}, {kTb4, {13, 11.7, 11.1}}, {kTb5, {2.2, 1.6, 1.4}},
               {kRoce, {0.9, 0.7, 0.6}}};
  for (const auto& one : cases) {
    for (size_t type = 0; type < kPayloads.size(); ++type) {
      const double bytes = 8192 * placement::payload_bytes_each(kPayloads[type]);
      const double ms =
          1e3 * 160 * placement::all_reduce_s(2, bytes, {one.link.one_way_s, one.link.bytes_per_s});
      EXPECT_NEAR(ms / one.ms[type], 1, 0.06) << one.link.name << " " << type;
    }
  }
}

TEST(Links, ManyRanksSumInPartsWhereThatIsSooner) {
  const placement::GroupLink ethernet{k1Gbe.one_way_s, k1Gbe.bytes_per_s};
  // Little: each sends to each at once. Much: parts are summed, then gathered.
  EXPECT_DOUBLE_EQ(placement::all_reduce_s(8, 100, ethernet), 70e-6 + 7 * 100 / 117.5e6);
  EXPECT_DOUBLE_EQ(placement::all_reduce_s(8, 1e6, ethernet), 140e-6 + 2 * 7 / 8.0 * 1e6 / 117.5e6);
  EXPECT_EQ(placement::all_reduce_s(1, 1e6, ethernet), 0);
}

// What two ranks gain in decode against one, and what a prompt's sums take.
TEST(Links, TwoRanksGainWhatTheTheorySays) {
  const struct {
    Machine machine;
    KnownLink link;
    double gain;
  } cases[] = {{kDesktop, k1Gbe, 1.78},
               {kStudio, k1Gbe, 0.86},
               {kStudio, k10Gbe, 1.6},
               {kStudio, kTb5, 1.85}};
  const ModelCard card = card_of(k70B);
  EXPECT_NEAR(static_cast<double>(card.file_bytes), 42e9, 0.2e9);
  for (const auto& one : cases) {
    const auto pair = place(alike(one.machine, 2, one.link), card,
                            {.context = 2048,
                             .sequences = 1,
                             .node_count = 2,
                             .mode = PlanMode::kTensor,
                             .payload = Payload::kBf16});
    const auto alone =
        place(alike(one.machine, 1, one.link), card, {.context = 2048, .sequences = 1});
    ASSERT_TRUE(pair && alone);
    EXPECT_NEAR(pair->chosen()->decode_tokens_per_s / alone->chosen()->decode_tokens_per_s,
                one.gain, 0.05 * one.gain)
        << one.link.name;
  }
  // Of a prompt's traffic what its other half's computing does not hide is waited for.
  const double computing_s =
      place(alike(kStudio, 1, k1Gbe), card, {.context = 2048, .sequences = 1})
          ->chosen()
          ->time_to_first_token_s /
      2;
  for (const auto& [link, traffic_s] : {std::pair{k1Gbe, 11.4}, {k10Gbe, 1.15}, {kTb5, 0.31}}) {
    const auto pair = place(
        alike(kStudio, 2, link), card,
        {.context = 2048, .sequences = 1, .mode = PlanMode::kTensor, .payload = Payload::kBf16});
    ASSERT_TRUE(pair);
    const double waited_s = pair->chosen()->first_token_links_s;
    EXPECT_LT(waited_s, 0.95 * traffic_s) << link.name;
    EXPECT_GT(waited_s, 0.95 * traffic_s - computing_s) << link.name;
  }
}

// What is picked where everything fits on one node: a second has to pay for itself.
TEST(Links, TheChoiceFollowsTheLink) {
  const struct {
    Machine machine;
    Shape shape;
    std::map<std::string, std::string> choices;  // by link, for two nodes
  } cases[] = {
      {kDesktop,
       k1B,
       {{"Wi-Fi", "one_node 1 f32"},
        {"1 GbE", "one_node 1 f32"},
        {"2.5 GbE", "tensor 2 bf16"},
        {"10 GbE", "tensor 2 f32"},
        {"TB4 IP", "tensor 2 f32"},
        {"TB5 RDMA", "tensor 2 f32"},
        {"RoCE100", "tensor 2 f32"}}},
      {kDesktop,
       k8B,
       {{"Wi-Fi", "one_node 1 f32"},
        {"1 GbE", "tensor 2 bf16"},
        {"2.5 GbE", "tensor 2 bf16"},
        {"10 GbE", "tensor 2 f32"},
        {"TB4 IP", "tensor 2 f32"},
        {"TB5 RDMA", "tensor 2 f32"},
        {"RoCE100", "tensor 2 f32"}}},
      {kDesktop,
       k70B,
       {{"Wi-Fi", "one_node 1 f32"},
        {"1 GbE", "tensor 2 bf16"},
        {"10 GbE", "tensor 2 f32"},
        {"TB5 RDMA", "tensor 2 f32"}}},
      {kStudio,
       k8B,
       {{"Wi-Fi", "one_node 1 f32"},
        {"1 GbE", "one_node 1 f32"},
        {"2.5 GbE", "one_node 1 f32"},
        {"10 GbE", "tensor 2 bf16"},
        {"TB5 RDMA", "tensor 2 f32"},
        {"RoCE100", "tensor 2 f32"}}},
      {kStudio,
       k70B,
       {{"Wi-Fi", "one_node 1 f32"},
        {"1 GbE", "one_node 1 f32"},
        {"2.5 GbE", "pipeline 2 f32"},
        {"10 GbE", "tensor 2 bf16"},
        {"TB5 RDMA", "tensor 2 f32"},
        {"RoCE100", "tensor 2 f32"}}},
  };
  for (const auto& one : cases) {
    for (const KnownLink& link : {kWifi, k1Gbe, k2Gbe, k10Gbe, kTb4, kTb5, kRoce}) {
      if (!one.choices.contains(link.name)) continue;
      const auto placement =
          place(alike(one.machine, 2, link), card_of(one.shape), {.context = 2048, .sequences = 1});
      ASSERT_TRUE(placement);
      EXPECT_EQ(choice_of(*placement), one.choices.at(link.name))
          << one.shape.name << " over " << link.name << ": "
          << placement->considered.front().reason;
    }
  }
}

// Where no node holds the model alone, a slow link passes on what layers made, and a fast one adds.
TEST(Links, AModelThatNeedsTwoNodesIsAPipelineOverWifi) {
  const ModelCard card = card_of(k70B);
  for (const Machine& machine : {kDesktop, kStudio}) {
    const auto wifi = place(alike(machine, 2, kWifi, 32), card, {.context = 2048, .sequences = 1});
    ASSERT_TRUE(wifi) << wifi.error().message;
    EXPECT_EQ(plan_mode(*wifi->chosen()), PlanMode::kPipeline);
    EXPECT_THAT(wifi->considered[0].reason, HasSubstr("layers split over a > b, a pipeline"));
    EXPECT_THAT(wifi->considered[0].reason, HasSubstr("no node can hold it alone"));
    const auto& tensor = wifi->considered.at(3);
    EXPECT_EQ(plan_mode(tensor.plan), PlanMode::kTensor);
    EXPECT_THAT(tensor.reason, HasSubstr("; its links take "));
    EXPECT_GT(tensor.plan.token_links_s, 0.35);
    const auto thunderbolt =
        place(alike(machine, 2, kTb5, 32), card, {.context = 2048, .sequences = 1});
    ASSERT_TRUE(thunderbolt);
    EXPECT_EQ(plan_mode(*thunderbolt->chosen()), PlanMode::kTensor);
  }
  // A prompt over 1 GbE: the pipeline is the one that gains.
  const auto ethernet = place(alike(kStudio, 2, k1Gbe), card, {.context = 2048, .sequences = 1});
  ASSERT_TRUE(ethernet);
  std::map<PlanMode, double> prefill;
  for (const Considered& one : ethernet->considered)
    prefill[plan_mode(one.plan)] = one.plan.prefill_tokens_per_s;
  EXPECT_GT(prefill[PlanMode::kPipeline], 1.2 * prefill[PlanMode::kOneNode]);
  EXPECT_LT(prefill[PlanMode::kTensor], 0.5 * prefill[PlanMode::kOneNode]);
}

// Weights that are plain floats cost a prompt what the node takes for those.
TEST(Links, PromptsFollowTheSpeedOfTheirNumbers) {
  Topology one = alike(kDesktop, 1, k10Gbe);
  ModelCard card = card_of(k8B);
  const auto prefill_of = [&](std::string_view quantisation) {
    card.quantisation = quantisation;
    const auto placement = place(one, card, {.context = 2048, .sequences = 1});
    EXPECT_TRUE(placement);
    return placement ? placement->chosen()->prefill_tokens_per_s : 0;
  };
  const double quantised = prefill_of("Q4_K");
  EXPECT_EQ(prefill_of("F16"), quantised) << "nobody has measured floats";
  one.nodes[0].float_multiply_adds_per_s = one.nodes[0].multiply_adds_per_s / 2;
  EXPECT_NEAR(prefill_of("F16") / quantised, 0.5, 0.03);
  EXPECT_GT(prefill_of("Q8_0") / quantised, 0.95) << "attention alone is slower";
  EXPECT_LT(prefill_of("Q8_0") / quantised, 1);
}

TEST(Links, SeveralSequencesKeepAPipelineBusy) {
  const auto placement = place(alike(kDesktop, 2, k10Gbe), card_of(k70B),
                               {.context = 2048, .sequences = 2, .mode = PlanMode::kPipeline});
  ASSERT_TRUE(placement);
  const Plan& plan = *placement->chosen();
  EXPECT_NEAR(plan.all_decode_tokens_per_s / plan.decode_tokens_per_s, 2, 0.1);
}

// One sequence's tokens pass every stage, so its prompt decides; several wait for the slowest
// stage, which the head makes slower.
TEST(Links, LayersAreDividedByWhatTheWishCaresFor) {
  const auto layers_of_first = [](const Placement& placement) {
    return placement.chosen()->ranks[0].cut.layers.size();
  };
  const Topology two = alike(kDesktop, 2, k10Gbe);
  const auto one_sequence =
      place(two, card_of(k1B), {.context = 2048, .sequences = 1, .mode = PlanMode::kPipeline});
  ASSERT_TRUE(one_sequence);
  EXPECT_EQ(layers_of_first(*one_sequence), 8);
  EXPECT_THAT(one_sequence->considered[0].reason, HasSubstr("divided by what a prompt takes"));
  const auto several =
      place(two, card_of(k1B), {.context = 2048, .sequences = 2, .mode = PlanMode::kPipeline});
  ASSERT_TRUE(several);
  EXPECT_GT(layers_of_first(*several), 8);
  EXPECT_THAT(several->considered[0].reason, HasSubstr("as 2 sequences decode together"));
  // A node that computes faster than it reads takes more layers of a prompt.
  Topology uneven = two;
  uneven.nodes[1].multiply_adds_per_s *= 3;
  const auto faster =
      place(uneven, card_of(k1B), {.context = 2048, .sequences = 1, .mode = PlanMode::kPipeline});
  ASSERT_TRUE(faster);
  EXPECT_LT(layers_of_first(*faster), 8);
}

// Two pairs on Thunderbolt, Ethernet between them, and no pair can hold the model.
TEST(Links, PairsOnFastLinksBecomeTheStagesOfAHybrid) {
  Topology topology;
  for (const char* name : {"a", "b", "c", "d"})
    topology.nodes.push_back(node_of(kStudio, name, 16));
  for (const auto& [a, b] : {std::pair{"a", "c"}, {"b", "d"}}) add_link(topology, a, b, kTb5);
  for (const auto& [a, b] : {std::pair{"a", "b"}, {"a", "d"}, {"c", "b"}, {"c", "d"}})
    add_link(topology, a, b, k1Gbe);
  const auto placement = place(topology, card_of(k70B), {.context = 2048, .sequences = 1});
  ASSERT_TRUE(placement) << placement.error().message;
  const Plan& plan = *placement->chosen();
  ASSERT_EQ(plan_mode(plan), PlanMode::kHybrid) << placement->considered[0].reason;
  EXPECT_THAT(placement->considered[0].reason, HasSubstr("layers split over a + c > b + d"));
  ASSERT_EQ(plan.ranks.size(), 4u);
  EXPECT_EQ(plan.ranks[1].node, "c");
  EXPECT_EQ(plan.ranks[1].stage, 0);
  EXPECT_EQ(plan.ranks[2].cut.layers.begin, plan.ranks[0].cut.layers.end);
  EXPECT_EQ(plan.ranks[3].cut.layers.end, 80);
}

TEST(Links, ANodeThatWouldSlowTheModelIsLeftOutByName) {
  Topology topology = alike(kDesktop, 2, k10Gbe);
  topology.nodes.push_back(node_of(kDesktop, "attic"));
  for (const char* name : {"a", "b"}) add_link(topology, name, "attic", kWifi);
  const auto placement = place(topology, card_of(k8B), {.context = 2048, .sequences = 1});
  ASSERT_TRUE(placement);
  EXPECT_EQ(choice_of(*placement), "tensor 2 f32");
  EXPECT_THAT(placement->considered[0].reason,
              HasSubstr("; attic is left out: with it an answer takes "));
}

TEST(Links, AWishForAModeOrAPayloadIsKept) {
  const Topology four = alike(kDesktop, 4, k10Gbe);
  const ModelCard card = card_of(k8B);
  for (const PlanMode mode : kPlanModes) {
    const auto placement = place(four, card, {.context = 2048, .mode = mode});
    ASSERT_TRUE(placement) << placement.error().message;
    EXPECT_EQ(plan_mode(*placement->chosen()), mode);
    EXPECT_THAT(placement->considered[0].reason, HasSubstr("was asked for"));
    for (const Considered& one : placement->considered) {
      if (plan_mode(one.plan) == mode) continue;
      EXPECT_EQ(one.reason, fmt::format("{} was asked for", plan_mode_words(mode)));
    }
  }
  for (const Payload payload : kPayloads) {
    const auto placement = place(four, card, {.context = 2048, .payload = payload});
    ASSERT_TRUE(placement);
    EXPECT_EQ(placement->chosen()->payload, payload);
  }
  const auto refusal = [&](const Topology& topology, const ModelCard& model, const Wish& wish) {
    const auto placement = place(topology, model, wish);
    EXPECT_FALSE(placement);
    if (placement) return std::string();
    EXPECT_EQ(placement.error().code, ErrorCode::kInvalidArgument);
    return placement.error().message;
  };
  EXPECT_THAT(refusal(alike(kDesktop, 2, kTb4), card, {.mode = PlanMode::kHybrid}),
              HasSubstr("hybrid was asked for, which takes at least 3 nodes; this cluster has 2"));
  EXPECT_THAT(refusal(four, card, {.node_count = 1, .mode = PlanMode::kPipeline}),
              HasSubstr("takes at least 2 nodes; 1 were asked for"));
  ModelCard entangled = card;
  entangled.layers_stand_alone = false;
  EXPECT_THAT(refusal(four, entangled, {.mode = PlanMode::kPipeline}),
              HasSubstr("layers of 8B read what others made beside the residual stream"));
  const auto by_tensors = place(four, entangled, {.context = 2048});
  ASSERT_TRUE(by_tensors);
  for (const Considered& one : by_tensors->considered) EXPECT_LE(one.plan.ranks.back().stage, 0);
}

// 9 nodes: all subsets would be too many, the sensible ones are tried.
TEST(Links, ALargerClusterIsPlannedByItsLinks) {
  Topology topology;
  for (int i = 0; i < 9; ++i) {
    topology.nodes.push_back(node_of(kStudio, std::string(1, static_cast<char>('a' + i)), 9));
    for (int j = 0; j < i; ++j)
      add_link(topology, topology.nodes[static_cast<size_t>(j)].id, topology.nodes.back().id,
               i % 2 == j % 2 ? kTb5 : k1Gbe);
  }
  const auto placement = place(topology, card_of(k70B), {.context = 2048, .sequences = 1});
  ASSERT_TRUE(placement) << placement.error().message;
  EXPECT_THAT(placement->considered[0].reason, HasSubstr("a + c + e + g > b + d + f + h"));
}

}  // namespace
}  // namespace shoal
