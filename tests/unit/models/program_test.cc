// The program of a rank: that it is whole, that its parts fit together, and that ranks' parts make
// up the model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "dense_cut.h"
#include "models/model.h"
#include "tiny_llama.h"

namespace shoal {
namespace {

struct Loaded {
  std::string bytes;
  gguf::File file;
  ModelDescription model;
  ModelCard card;
};

std::unique_ptr<Loaded> loaded(const TinyLlama& tiny) {
  auto out = std::make_unique<Loaded>();
  out->bytes = tiny.bytes();
  out->file = std::move(*gguf::File::parse(as_bytes(out->bytes), "tiny.gguf"));
  out->model = *describe(out->file);
  out->card = model_card(out->file, out->model);
  return out;
}

// Walks a program as a backend would and checks that every width agrees with the weights as cut.
class Checker {
 public:
  Checker(const Program& program, const gguf::File& file) : program_(program), file_(file) {}

  void run() {
    for (const Segment& segment : program_.segments) {
      for (const Operation& operation : segment.operations)
        std::visit([&](const auto& held) { check(held); }, operation);
      if (segment.all_reduce) {
        EXPECT_EQ(buffer(*segment.all_reduce).rows, Rows::kAll);
      }
    }
    EXPECT_EQ(used_weights_.size(), program_.weights.size()) << "a weight that nothing uses";
    EXPECT_EQ(buffer(program_.logits).width, program_.vocabulary.size());
    EXPECT_EQ(buffer(program_.logits).rows, Rows::kWanted);
    EXPECT_EQ(buffer(program_.hidden).rows, Rows::kWanted);
  }

 private:
  const BufferSpec& buffer(BufferId id) { return program_.buffers.at(static_cast<size_t>(id)); }
  int64_t rows(WeightId id) { return kept(weight(id).cut.rows, source(id).rows); }
  int64_t columns(WeightId id) { return kept(weight(id).cut.columns, source(id).columns); }
  template <typename Other>
  void check(const Other&) {
    ADD_FAILURE() << "an operation that this architecture does not need";
  }
  const WeightSpec& weight(WeightId id) {
    used_weights_.insert(id);
    return program_.weights.at(static_cast<size_t>(id));
  }
  TensorSource source(WeightId id) { return *file_.tensor(weight(id).tensor); }

  void check(const Embed& op) {
    EXPECT_EQ(columns(op.table), buffer(op.out).width);
    EXPECT_EQ(op.first_token, program_.vocabulary.begin);
    EXPECT_EQ(rows(op.table), program_.vocabulary.size());
  }
  void check(const RmsNorm& op) {
    ASSERT_TRUE(op.weight);
    EXPECT_EQ(weight(*op.weight).use, WeightUse::kVector);
    EXPECT_EQ(columns(*op.weight), buffer(op.in).width);
    EXPECT_EQ(buffer(op.in).width, buffer(op.out).width);
    EXPECT_EQ(buffer(op.in).rows, buffer(op.out).rows);
  }
  void check(const Project& op) {
    for (const Project::Output& output : op.outputs) {
      EXPECT_EQ(weight(output.weight).use, WeightUse::kMatrix);
      EXPECT_EQ(columns(output.weight), buffer(op.in).width);
      EXPECT_EQ(rows(output.weight), buffer(output.out).width);
      if (output.bias) {
        EXPECT_EQ(columns(*output.bias), buffer(output.out).width);
      }
      for (const Range& range : weight(output.weight).cut.columns) {
        const int64_t unit = element_traits(source(output.weight).type).block_elements > 1 ? 32 : 1;
        EXPECT_EQ(range.begin % unit, 0);
        EXPECT_TRUE(range.end % unit == 0 || range.end == source(output.weight).columns);
      }
    }
  }
  void check(const Rotate& op) {
    EXPECT_EQ(buffer(op.data).width, int64_t{op.heads} * op.head_dimension);
    const RopeSpec& rope = program_.ropes.at(static_cast<size_t>(op.rope));
    EXPECT_LE(rope.dimensions, op.head_dimension);
    if (rope.frequency_factors) {
      EXPECT_EQ(columns(*rope.frequency_factors), rope.dimensions / 2);
    }
  }
  void check(const Attend& op) {
    const CacheGroupSpec& group = program_.cache_groups.at(static_cast<size_t>(op.group));
    EXPECT_EQ(op.layer, next_layer_++);
    EXPECT_LT(op.layer, group.layer_count);
    EXPECT_EQ(buffer(op.k).width, int64_t{group.kv_heads} * group.head_dimension);
    EXPECT_EQ(buffer(op.v).width, buffer(op.k).width);
    EXPECT_EQ(buffer(op.q).width,
              static_cast<int64_t>(op.query_to_kv.size()) * group.head_dimension);
    EXPECT_EQ(buffer(op.out).width, buffer(op.q).width);
    for (const int head : op.query_to_kv) EXPECT_LT(head, group.kv_heads);
  }
  void check(const Gate& op) {
    EXPECT_EQ(buffer(op.gate).width, buffer(op.up).width);
    EXPECT_EQ(buffer(op.gate).width, buffer(op.out).width);
  }
  void check(const Add& op) { EXPECT_EQ(buffer(op.in).width, buffer(op.target).width); }
  void check(const Gather& op) {
    EXPECT_EQ(buffer(op.in).width, buffer(op.out).width);
    EXPECT_EQ(buffer(op.in).rows, Rows::kAll);
    EXPECT_EQ(buffer(op.out).rows, Rows::kWanted);
  }

  const Program& program_;
  const gguf::File& file_;
  std::set<WeightId> used_weights_;
  int next_layer_ = 0;
};

const std::vector<TinyLlama> kShapes = {
    {},
    {.layers = 1, .kv_heads = 4},
    {.layers = 3,
     .hidden = 96,
     .feed_forward = 100,
     .heads = 3,
     .kv_heads = 3,
     .tied = true,
     .rope_factors = true},
    {.hidden = 64, .heads = 6, .kv_heads = 3, .key_length = 48, .vocabulary = 259, .biases = true},
};

TEST(BuildProgram, TheWholeModelFitsTogether) {
  for (const TinyLlama& shape : kShapes) {
    const auto source = loaded(shape);
    const auto program = build_program(source->model, whole(source->card), 100);
    ASSERT_TRUE(program) << program.error().message;
    Checker(*program, source->file).run();
    // One all-reduce for the embedding, two per layer, none at the head.
    EXPECT_EQ(program->segments.size(), 2u + 2 * shape.layers);
    EXPECT_FALSE(program->segments.back().all_reduce);
    for (const WeightSpec& weight : program->weights) EXPECT_EQ(weight.cut, Cut{}) << weight.tensor;
    EXPECT_EQ(program->weights.size(), source->file.tensors().size());
  }
}

TEST(BuildProgram, ATiedTableIsOneWeight) {
  const auto source = loaded({.tied = true});
  const auto program = build_program(source->model, whole(source->card), 100);
  int tables = 0;
  for (const WeightSpec& weight : program->weights)
    tables += weight.tensor == "token_embd.weight" ? 1 : 0;
  EXPECT_EQ(tables, 1);
  const auto& embed = std::get<Embed>(program->segments.front().operations.front());
  const auto& head = std::get<Project>(program->segments.back().operations.back());
  EXPECT_EQ(embed.table, head.outputs.front().weight);
}

TEST(BuildProgram, RanksTogetherHoldEveryElementOfEveryTensorOnce) {
  for (const TinyLlama& shape : kShapes) {
    const auto source = loaded(shape);
    for (const auto& shares :
         {std::vector<double>{1, 1}, std::vector<double>{3, 1}, std::vector<double>{1, 1, 1}}) {
      const auto cuts = partition(source->card, shares);
      if (!cuts) {
        EXPECT_EQ(cuts.error().code, ErrorCode::kDoesNotFit);
        continue;
      }
      std::map<std::string, std::vector<int>> held;
      for (const RankCut& cut : *cuts) {
        const auto program = build_program(source->model, cut, 100);
        ASSERT_TRUE(program) << program.error().message;
        Checker(*program, source->file).run();
        for (const WeightSpec& weight : program->weights) {
          const TensorSource tensor = *source->file.tensor(weight.tensor);
          auto& counts = held[weight.tensor];
          counts.resize(static_cast<size_t>(tensor.rows * tensor.columns));
          const auto all = [](const std::vector<Range>& ranges, int64_t size) {
            return ranges.empty() ? std::vector<Range>{{0, size}} : ranges;
          };
          for (const Range& rows : all(weight.cut.rows, tensor.rows)) {
            for (int64_t row = rows.begin; row < rows.end; ++row) {
              for (const Range& columns : all(weight.cut.columns, tensor.columns)) {
                for (int64_t column = columns.begin; column < columns.end; ++column) {
                  ++counts[static_cast<size_t>(row * tensor.columns + column)];
                }
              }
            }
          }
        }
      }
      for (const auto& [name, counts] : held) {
        const bool replicated =
            name.find("norm") != std::string::npos || name == "rope_freqs.weight";
        const int expected = replicated ? static_cast<int>(cuts->size()) : 1;
        const bool key_or_value =
            name.find("attn_k.") != std::string::npos || name.find("attn_v.") != std::string::npos;
        if (key_or_value && static_cast<int64_t>(cuts->size()) > source->card.kv_head_count) {
          EXPECT_THAT(counts, testing::Each(testing::Ge(1))) << name;  // some are held twice
          continue;
        }
        EXPECT_THAT(counts, testing::Each(expected)) << name;
      }
    }
  }
}

TEST(BuildProgram, ARankReadsTheRowsOfItsHeads) {
  const auto source =
      loaded({.layers = 1, .hidden = 96, .heads = 6, .kv_heads = 3, .key_length = 32});
  const auto program = build_program(source->model, dense_cut({2, 6}, {32, 96}, {64, 100}), 100);
  ASSERT_TRUE(program) << program.error().message;
  std::map<std::string, Cut> cuts;
  for (const WeightSpec& weight : program->weights) cuts[weight.tensor] = weight.cut;
  EXPECT_EQ(cuts["blk.0.attn_q.weight"], (Cut{{{64, 192}}, {}}));
  EXPECT_EQ(cuts["blk.0.attn_k.weight"], (Cut{{{32, 96}}, {}}));
  EXPECT_EQ(cuts["blk.0.attn_v.weight"], (Cut{{{32, 96}}, {}}));
  EXPECT_EQ(cuts["blk.0.attn_output.weight"], (Cut{{}, {{64, 192}}}));
  EXPECT_EQ(cuts["blk.0.ffn_gate.weight"], (Cut{{{32, 96}}, {}}));
  EXPECT_EQ(cuts["blk.0.ffn_down.weight"], (Cut{{}, {{32, 96}}}));
  EXPECT_EQ(cuts["token_embd.weight"], (Cut{{{64, 100}}, {}}));
  EXPECT_EQ(cuts["output.weight"], (Cut{{{64, 100}}, {}}));
  EXPECT_EQ(program->vocabulary, (Range{64, 100}));
  EXPECT_EQ(program->vocabulary_size, 100);
  EXPECT_EQ(program->cache_groups.front().kv_heads, 2);
}

TEST(BuildProgram, CutsThatAreNoPartsAreRefused) {
  const auto source = loaded({.hidden = 96, .heads = 3, .kv_heads = 3, .matrix_type = 8});
  const RankCut good = whole(source->card);
  const auto refuses = [&](RankCut cut) {
    const auto program = build_program(source->model, cut, 100);
    return !program && program.error().code == ErrorCode::kInvalidArgument;
  };
  for (const Range bad : {Range{0, 0}, Range{-32, 32}, Range{0, 4096}, Range{32, 0}}) {
    EXPECT_TRUE(refuses(dense_cut(bad, good[CutKind::kFeedForward], good[CutKind::kVocabulary])));
    EXPECT_TRUE(refuses(dense_cut(good[CutKind::kHeads], bad, good[CutKind::kVocabulary])));
    EXPECT_TRUE(refuses(dense_cut(good[CutKind::kHeads], good[CutKind::kFeedForward], bad)));
  }
  EXPECT_TRUE(refuses(dense_cut(good[CutKind::kHeads], {0, 33}, good[CutKind::kVocabulary])));
  ModelDescription unknown = source->model;
  unknown.architecture = "mamba";
  EXPECT_TRUE(build_program(unknown, good, 100)
                  .error()
                  .message.starts_with(
                      "the architecture \"mamba\" is not supported; supported are: llama, "));
}

}  // namespace
}  // namespace shoal
