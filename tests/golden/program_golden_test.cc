// The programs of all architectures, run on the CPU backend segment by segment, against another
// implementation's logits: whole, and cut over two to four ranks whose partial sums are added here.
// No engine, no links.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>

#include "base/file.h"
#include "base/json.h"
#include "kernels/cpu_backend.h"
#include "kernels/kernel_table.h"
#include "models/model.h"

namespace shoal {
namespace {

constexpr int64_t kMostPositions = 128;

// All ranks of a stage, each with a backend of its own.
class Ranks {
 public:
  Ranks(const gguf::File& file, const ModelDescription& model, const std::vector<RankCut>& cuts,
        Isa isa, KvType kv_type, int64_t context) {
    for (const RankCut& cut : cuts) {
      programs_.push_back(*build_program(model, cut, context));
      backends_.push_back(make_cpu_backend(isa, 1));
      const Program& program = programs_.back();
      Backend& backend = *backends_.back();
      check(backend.prepare(program, {kMostPositions, kMostPositions, kMostPositions}));
      for (size_t id = 0; id < program.weights.size(); ++id) {
        check(backend.load(static_cast<WeightId>(id), *file.tensor(program.weights[id].tensor)));
      }
      const std::vector<int64_t> pages(program.cache_groups.size(),
                                       kMostPositions / backend.page_tokens() + 1);
      check(backend.allocate_kv(kv_type, pages));
    }
  }

  void run(const StepBatch& batch) {
    for (size_t segment = 0; segment < programs_[0].segments.size(); ++segment) {
      for (const auto& backend : backends_) check(backend->run(segment, batch));
      if (const auto buffer = programs_[0].segments[segment].all_reduce)
        add_up(*buffer, static_cast<int64_t>(batch.tokens.size()));
    }
  }

  void receive(Ranks& before, int64_t rows) {
    const std::span<const float> sent =
        before.backends_[0]->rows(before.programs_[0].sent.value(), 0, rows);
    for (size_t rank = 0; rank < backends_.size(); ++rank) {
      std::ranges::copy(sent,
                        backends_[rank]->rows(programs_[rank].received.value(), 0, rows).begin());
    }
  }

  // Each rank's rows of the vocabulary, side by side.
  std::vector<float> logits(int64_t rows) {
    const auto vocabulary = static_cast<size_t>(programs_[0].vocabulary_size);
    std::vector<float> all(static_cast<size_t>(rows) * vocabulary, NAN);
    for (size_t rank = 0; rank < backends_.size(); ++rank) {
      const Range range = programs_[rank].vocabulary;
      const std::span<const float> part = backends_[rank]->rows(programs_[rank].logits, 0, rows);
      const auto width = static_cast<size_t>(range.size());
      for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
        std::ranges::copy(part.subspan(row * width, width),
                          all.begin() + static_cast<ptrdiff_t>(row * vocabulary) + range.begin);
      }
    }
    return all;
  }

  int page_tokens() const { return backends_[0]->page_tokens(); }
  size_t cache_groups() const { return programs_[0].cache_groups.size(); }

 private:
  static void check(const Status& status) { ASSERT_TRUE(status) << status.error().message; }

  void add_up(BufferId buffer, int64_t rows) {
    std::vector<float> sum;
    for (const auto& backend : backends_) {
      const std::span<float> part = backend->rows(buffer, 0, rows);
      sum.resize(part.size());
      for (size_t i = 0; i < part.size(); ++i) sum[i] += part[i];
    }
    for (const auto& backend : backends_)
      std::ranges::copy(sum, backend->rows(buffer, 0, rows).begin());
  }

  std::vector<Program> programs_;
  std::vector<std::unique_ptr<Backend>> backends_;
};

// Logits at the wanted positions of one sequence, run as one step through all stages.
std::vector<float> logits_of(std::vector<Ranks>& stages, const std::vector<int32_t>& tokens,
                             const std::vector<int32_t>& wanted) {
  const size_t rows = tokens.size();
  std::vector<int32_t> positions(rows);
  std::iota(positions.begin(), positions.end(), 0);
  const std::vector<Role> roles(rows, Role::kPrompt);
  const std::vector<int32_t> sequences(rows, 0);
  std::vector<PageId> pages(rows / static_cast<size_t>(stages[0].page_tokens()) + 1);
  std::iota(pages.begin(), pages.end(), 0);
  const StepBatch batch{tokens, positions,
                        roles,  sequences,
                        wanted, {stages[0].cache_groups(), {std::span<const PageId>(pages)}}};
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    if (stage > 0) stages[stage].receive(stages[stage - 1], static_cast<int64_t>(rows));
    stages[stage].run(batch);
  }
  return stages.back().logits(static_cast<int64_t>(wanted.size()));
}

const std::string kFolder = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/";

struct Fixture {
  gguf::File file;
  ModelDescription model;
  ModelCard card;
  Json json;
};

Fixture open_fixture(const std::string& name) {
  const Json json = *parse_json(*read_file(kFolder + name + ".json"));
  const std::string folder = std::filesystem::path(kFolder + name).parent_path().string() + "/";
  auto file = gguf::File::open(folder + json["model"].get<std::string>());
  EXPECT_TRUE(file) << file.error().message;
  auto model = describe(*file);
  EXPECT_TRUE(model) << model.error().message;
  const ModelCard card = model_card(*file, *model);
  return {std::move(*file), std::move(*model), card, json};
}

// A stage's layers, and the shares of its ranks.
struct Stage {
  Range layers;
  std::vector<double> shares;
};

// The largest difference from the fixture, as a share of its largest logit.
double worst_of_stages(const Fixture& fixture, const std::vector<Stage>& stages, Isa isa,
                       KvType kv_type) {
  const int64_t context = fixture.json.value("context", fixture.model.context_length);
  std::vector<Ranks> ranks;
  for (const Stage& stage : stages) {
    auto cuts = partition(fixture.card, stage.shares);
    EXPECT_TRUE(cuts) << cuts.error().message;
    for (RankCut& cut : *cuts) cut.layers = stage.layers;
    ranks.emplace_back(fixture.file, fixture.model, *cuts, isa, kv_type, context);
  }
  double worst = 0;
  for (const Json& test : fixture.json["cases"]) {
    const auto wanted = test["positions"].get<std::vector<int32_t>>();
    const auto logits = logits_of(ranks, test["tokens"].get<std::vector<int32_t>>(), wanted);
    const auto expected = test["logits"].get<std::vector<std::vector<double>>>();
    double largest = 0;
    for (const auto& row : expected) {
      for (const double logit : row) largest = std::max(largest, std::abs(logit));
    }
    for (size_t row = 0; row < expected.size(); ++row) {
      for (size_t i = 0; i < expected[row].size(); ++i) {
        const double difference =
            std::abs(logits[row * expected[row].size() + i] - expected[row][i]) / largest;
        worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
      }
    }
  }
  testing::Test::RecordProperty("worst_difference", fmt::format("{:.2e}", worst));
  return worst;
}

double worst_difference(const Fixture& fixture, const std::vector<double>& shares, Isa isa,
                        KvType kv_type) {
  return worst_of_stages(fixture, {{{}, shares}}, isa, kv_type);
}

// Every fixture there is: "llama/plain", "models/qwen2", and so on.
std::vector<std::string> fixtures() {
  std::vector<std::string> names;
  for (const char* folder : {"llama", "models"}) {
    for (const auto& entry : std::filesystem::directory_iterator(kFolder + folder)) {
      if (entry.path().extension() == ".json")
        names.push_back(folder + ("/" + entry.path().stem().string()));
    }
  }
  std::ranges::sort(names);
  return names;
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, OneRankAgreesWithAnotherImplementation) {
  EXPECT_LT(worst_difference(open_fixture(GetParam()), {1}, Isa::kReference, KvType::kF32), 1e-4);
}

TEST_P(Golden, TwoToFourRanksAgreeEvenAndUneven) {
  const Fixture fixture = open_fixture(GetParam());
  for (const std::vector<double>& shares : std::vector<std::vector<double>>{
           {1, 1}, {3, 1}, {1, 1, 1}, {1, 2, 3}, {1, 1, 1, 1}, {4, 1, 2, 1}}) {
    if (static_cast<int64_t>(shares.size()) > most_ranks(fixture.card)) continue;
    EXPECT_LT(worst_difference(fixture, shares, Isa::kReference, KvType::kF32), 1e-4)
        << shares.size() << " ranks";
  }
}

TEST_P(Golden, StagesOfLayersAgreeEachByOneRankOrSeveral) {
  const Fixture fixture = open_fixture(GetParam());
  const int64_t layers = fixture.model.layer_count;
  if (!fixture.model.layers_stand_alone()) {
    RankCut cut = whole(fixture.card);
    cut.layers = {0, layers - 1};
    const auto refused = build_program(fixture.model, cut, 64);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("cannot be cut by layers"), std::string::npos);
    return;
  }
  const std::vector<double> two =
      most_ranks(fixture.card) < 2 ? std::vector<double>{1} : std::vector<double>{2, 1};
  std::vector<std::vector<Stage>> plans;
  for (int64_t border = 1; border < layers; ++border) {
    plans.push_back({{{0, border}, {1}}, {{border, layers}, {1}}});
    plans.push_back({{{0, border}, two}, {{border, layers}, {1}}});
    plans.push_back({{{0, border}, {1}}, {{border, layers}, two}});
  }
  if (layers > 2) plans.push_back({{{0, 1}, {1}}, {{1, 2}, two}, {{2, layers}, {1}}});
  for (const auto& stages : plans) {
    EXPECT_LT(worst_of_stages(fixture, stages, Isa::kReference, KvType::kF32), 1e-4)
        << stages.size() << " stages, the second from layer " << stages[1].layers.begin;
  }
}

// What F16 costs: keys and values are rounded to 11 bits, about 5e-4 of each; the cache must not
// cost more than a few of that.
TEST_P(Golden, TheF16CacheCostsItsRoundingOnly) {
  EXPECT_LT(worst_difference(open_fixture(GetParam()), {1}, Isa::kReference, KvType::kF16), 5e-3);
}

TEST_P(Golden, VectorInstructionsAgreeToo) {
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
    if (kernels::kernels_for(isa) == nullptr) continue;  // of another architecture
    if (!machine_has(isa)) GTEST_SKIP() << "NOT TESTED: this machine lacks " << isa_name(isa);
    EXPECT_LT(worst_difference(open_fixture(GetParam()), {1}, isa, KvType::kF32), 1e-4)
        << isa_name(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, testing::ValuesIn(fixtures()), [](const auto& name) {
  std::string text = name.param;
  std::ranges::replace(text, '/', '_');
  return text;
});

}  // namespace
}  // namespace shoal
