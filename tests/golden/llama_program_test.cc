// The program of the llama architecture, run on the CPU backend segment by segment, against another
// implementation's logits: whole, and cut over two and three ranks whose partial sums are added
// here. No engine, no links.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "base/file.h"
#include "base/json.h"
#include "kernels/cpu_backend.h"
#include "models/model.h"

namespace shoal {
namespace {

constexpr int64_t kMostPositions = 128;

// All ranks of a model, each with a backend of its own.
class Ranks {
 public:
  Ranks(const gguf::File& file, const ModelDescription& model, const std::vector<RankCut>& cuts,
        Isa isa, KvType kv_type) {
    for (const RankCut& cut : cuts) {
      programs_.push_back(*build_program(model, cut));
      backends_.push_back(make_cpu_backend(isa, 1));
      const Program& program = programs_.back();
      Backend& backend = *backends_.back();
      check(backend.prepare(program, {kMostPositions, kMostPositions, kMostPositions}));
      for (size_t id = 0; id < program.weights.size(); ++id) {
        check(backend.load(static_cast<WeightId>(id), *file.tensor(program.weights[id].tensor)));
      }
      check(backend.allocate_kv(kv_type, kMostPositions / backend.page_tokens() + 1));
    }
  }

  // Logits at the wanted positions of one sequence, run as one step.
  std::vector<float> logits(const std::vector<int32_t>& tokens,
                            const std::vector<int32_t>& wanted) {
    const size_t rows = tokens.size();
    std::vector<int32_t> positions(rows);
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<Role> roles(rows, Role::kPrompt);
    const std::vector<int32_t> sequences(rows, 0);
    std::vector<PageId> pages(rows / static_cast<size_t>(backends_[0]->page_tokens()) + 1);
    std::iota(pages.begin(), pages.end(), 0);
    const StepBatch batch{tokens,    positions, roles,
                          sequences, wanted,    {{std::span<const PageId>(pages)}}};
    for (size_t segment = 0; segment < programs_[0].segments.size(); ++segment) {
      for (const auto& backend : backends_) check(backend->run(segment, batch));
      if (const auto buffer = programs_[0].segments[segment].all_reduce)
        add_up(*buffer, static_cast<int64_t>(rows));
    }
    return gathered(static_cast<int64_t>(wanted.size()));
  }

 private:
  static void check(const Status& status) { ASSERT_TRUE(status) << status.error().message; }

  void add_up(BufferId buffer, int64_t rows) {
    std::vector<float> sum;
    for (const auto& backend : backends_) {
      const std::span<float> part = backend->rows(buffer, rows);
      sum.resize(part.size());
      for (size_t i = 0; i < part.size(); ++i) sum[i] += part[i];
    }
    for (const auto& backend : backends_)
      std::ranges::copy(sum, backend->rows(buffer, rows).begin());
  }

  // Each rank's rows of the vocabulary, side by side.
  std::vector<float> gathered(int64_t rows) {
    const auto vocabulary = static_cast<size_t>(programs_[0].vocabulary_size);
    std::vector<float> all(static_cast<size_t>(rows) * vocabulary, NAN);
    for (size_t rank = 0; rank < backends_.size(); ++rank) {
      const Range range = programs_[rank].vocabulary;
      const std::span<const float> part = backends_[rank]->rows(programs_[rank].logits, rows);
      const auto width = static_cast<size_t>(range.size());
      for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
        std::ranges::copy(part.subspan(row * width, width),
                          all.begin() + static_cast<ptrdiff_t>(row * vocabulary) + range.begin);
      }
    }
    return all;
  }

  std::vector<Program> programs_;
  std::vector<std::unique_ptr<Backend>> backends_;
};

// The largest difference from the fixture, as a share of its largest logit.
double worst_difference(const std::string& name, const std::vector<double>& shares, Isa isa,
                        KvType kv_type) {
  const std::string folder = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/llama/";
  const Json fixture = *parse_json(*read_file(folder + name + ".json"));
  const auto file = gguf::File::open(folder + fixture["model"].get<std::string>());
  EXPECT_TRUE(file) << file.error().message;
  const auto model = describe(*file);
  EXPECT_TRUE(model) << model.error().message;
  const auto cuts = partition(model_card(*file, *model), shares);
  EXPECT_TRUE(cuts) << cuts.error().message;
  Ranks ranks(*file, *model, *cuts, isa, kv_type);
  double worst = 0;
  for (const Json& test : fixture["cases"]) {
    const auto wanted = test["positions"].get<std::vector<int32_t>>();
    const auto logits = ranks.logits(test["tokens"].get<std::vector<int32_t>>(), wanted);
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

class LlamaGolden : public testing::TestWithParam<const char*> {};

TEST_P(LlamaGolden, OneRankAgreesWithAnotherImplementation) {
  EXPECT_LT(worst_difference(GetParam(), {1}, Isa::kReference, KvType::kF32), 1e-4);
}

TEST_P(LlamaGolden, TwoRanksAgreeEvenAndUneven) {
  EXPECT_LT(worst_difference(GetParam(), {1, 1}, Isa::kReference, KvType::kF32), 1e-4);
  EXPECT_LT(worst_difference(GetParam(), {3, 1}, Isa::kReference, KvType::kF32), 1e-4);
}

TEST(LlamaGoldenHeads, ThreeRanksAgreeWhereThereAreHeadsForThem) {
  EXPECT_LT(worst_difference("tied_factors", {1, 1, 1}, Isa::kReference, KvType::kF32), 1e-4);
  EXPECT_LT(worst_difference("tied_factors", {1, 2, 3}, Isa::kReference, KvType::kF32), 1e-4);
}

// What F16 costs: keys and values are rounded to 11 bits, about 5e-4 of each; the cache must not
// cost more than a few of that.
TEST_P(LlamaGolden, TheF16CacheCostsItsRoundingOnly) {
  EXPECT_LT(worst_difference(GetParam(), {1}, Isa::kReference, KvType::kF16), 5e-3);
}

TEST_P(LlamaGolden, Avx2AgreesToo) {
  if (!machine_has(Isa::kAvx2)) GTEST_SKIP() << "this machine lacks AVX2";
  EXPECT_LT(worst_difference(GetParam(), {1}, Isa::kAvx2, KvType::kF32), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Shapes, LlamaGolden,
                         testing::Values("plain", "wide_heads", "tied_factors"),
                         [](const auto& shape) { return std::string(shape.param); });

}  // namespace
}  // namespace shoal
