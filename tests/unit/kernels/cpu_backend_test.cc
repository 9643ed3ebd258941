#include "kernels/cpu_backend.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "small_model.h"

namespace shoal::kernels_test {
namespace {

constexpr size_t kSegments = 3;

std::vector<int32_t> some_tokens(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(SmallModel::kVocabulary));
  return tokens;
}

void expect_near(const std::vector<float>& got, const std::vector<double>& expected,
                 double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  double largest = 0;
  for (const double x : expected) largest = std::max(largest, std::fabs(x));
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), expected[i], tolerance * largest);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

class BackendOn : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam()))
      GTEST_SKIP() << "NOT TESTED: this machine lacks " << isa_name(GetParam());
  }
  std::unique_ptr<Backend> start(const SmallModel& model, int threads, KvType kv) {
    auto backend = model.start(GetParam(), threads, kv);
    EXPECT_TRUE(backend) << backend.error().message;
    return backend ? std::move(*backend) : nullptr;
  }
};

const std::vector<PageId> kPages = {7, 3, 9, 1};  // 128 positions

TEST_P(BackendOn, AgreesWithThePlainEvaluation) {
  for (const bool interleaved : {true, false}) {
    for (const int64_t window : {0, 5, -5}) {  // below zero: a chunk
      const SmallModel model = {
          .window = std::abs(window), .interleaved = interleaved, .chunked = window < 0};
      const auto tokens = some_tokens(40, 1);
      const auto expected = model.evaluate(tokens);
      const auto backend = start(model, 1, KvType::kF32);
      ASSERT_TRUE(backend);
      for (size_t length : {1, 2, 7, 40}) {  // prompts in one chunk
        const auto got = run_step(
            *backend, kSegments,
            {{{tokens.begin(), tokens.begin() + static_cast<int64_t>(length)}, 0, kPages}});
        ASSERT_TRUE(got) << got.error().message;
        expect_near(got->hidden[0], expected.hidden[length - 1], 1e-5);
        expect_near(got->logits[0], expected.logits[length - 1], 1e-5);
      }
    }
  }
}

// --- the profile ---

const ProfiledPart* part_named(const std::vector<ProfiledPart>& parts, std::string_view name) {
  const auto part = std::ranges::find(parts, name, &ProfiledPart::name);
  return part == parts.end() ? nullptr : &*part;
}

TEST_P(BackendOn, ProfileCountsWhatIsReadAndMultiplied) {
  const auto backend = start({}, 1, KvType::kF32);
  ASSERT_TRUE(backend);
  const std::vector<Chunk> chunks = {{some_tokens(3, 1), 0, kPages}};
  const auto plain = run_step(*backend, kSegments, chunks);
  EXPECT_TRUE(backend->profile().empty());
  backend->set_profile(true);
  const auto timed = run_step(*backend, kSegments, chunks);
  backend->set_profile(false);
  ASSERT_TRUE(plain && timed);
  EXPECT_TRUE(same_bits(plain->logits[0], timed->logits[0]));

  const auto parts = backend->profile();
  const ProfiledPart* attention = part_named(parts, "attention");
  const ProfiledPart* head = part_named(parts, "head products");
  ASSERT_TRUE(attention != nullptr && head != nullptr);
  // Rows at positions 0, 1 and 2 attend to 6 in all, of 3 that are kept: K and V of 3 heads.
  EXPECT_EQ(attention->calls, 1u);
  EXPECT_EQ(attention->multiply_adds, 6 * 6 * (32 + 32));
  EXPECT_EQ(attention->read_bytes, 3 * 3 * (32 + 32) * 4);
  EXPECT_EQ(head->multiply_adds, 64 * SmallModel::kTableRows);  // of the one row that is wanted
  EXPECT_GE(head->read_bytes, 64 * SmallModel::kTableRows * 4);
  EXPECT_LE(head->read_bytes, 64 * 32 * 4);  // rows may be held in groups
  for (const ProfiledPart& part : parts) EXPECT_GE(part.seconds, 0) << part.name;

  backend->set_profile(true);
  EXPECT_TRUE(backend->profile().empty()) << "it starts from zero";
}

TEST_P(BackendOn, QuantisedModelsStayNear) {
  for (const ElementType type : kAllTypes) {
    if (type == ElementType::kF32 || element_traits(type).block_elements > 32) continue;
    const SmallModel model = {.matrix_type = type};
    const auto tokens = some_tokens(30, 2);
    const auto expected = model.evaluate(tokens);
    const auto backend = start(model, 1, KvType::kF16);
    ASSERT_TRUE(backend);
    const auto got = run_step(*backend, kSegments, {{tokens, 0, kPages}});
    ASSERT_TRUE(got) << got.error().message;
    expect_near(got->logits[0], expected.logits.back(), 0.1);
  }
}

// The promise that everything above rests on: threads, chunks, neighbours and roles change no bit.
TEST_P(BackendOn, SameBitsHoweverTheWorkIsCut) {
  for (const ElementType type : kAllTypes) {
    if (element_traits(type).block_elements > 32) continue;  // wider than the model
    for (const KvType kv : kKvTypes) {
      if (kv == KvType::kQ8_0 && type != ElementType::kF32 && type != ElementType::kQ4_0) continue;
      const SmallModel model = {.matrix_type = type, .window = kv == KvType::kF32 ? 0 : 20};
      const auto tokens = some_tokens(40, 3), others = some_tokens(29, 4);
      std::vector<std::vector<float>> by_length;  // logits after each prefix
      {
        const auto backend = start(model, 1, kv);
        ASSERT_TRUE(backend);
        for (size_t i = 0; i < tokens.size(); ++i) {
          const auto got =
              run_step(*backend, kSegments,
                       {{{tokens[i]}, static_cast<int32_t>(i), kPages, Role::kGenerated}});
          ASSERT_TRUE(got) << got.error().message;
          by_length.push_back(got->logits[0]);
        }
      }
      for (const int threads : {2, 5}) {
        for (const size_t chunk : {3, 13, 40}) {
          const auto backend = start(model, threads, kv);
          ASSERT_TRUE(backend);
          for (size_t done = 0; done < tokens.size();) {
            const size_t count = std::min(chunk, tokens.size() - done);
            std::vector<Chunk> chunks = {{{tokens.begin() + static_cast<int64_t>(done),
                                           tokens.begin() + static_cast<int64_t>(done + count)},
                                          static_cast<int32_t>(done),
                                          kPages}};
            // Another sequence before or after, while there is room in a step.
            if (done < others.size() && count < 20) {
              chunks.insert(
                  done % 2 == 0 ? chunks.begin() : chunks.end(),
                  {{others[done]}, static_cast<int32_t>(done), {0, 2, 4, 5}, Role::kGenerated});
            }
            const auto got = run_step(*backend, kSegments, chunks);
            ASSERT_TRUE(got) << got.error().message;
            done += count;
            const size_t mine = chunks.size() == 2 && chunks[0].pages[0] == 0 ? 1 : 0;
            ASSERT_TRUE(same_bits(got->logits[mine], by_length[done - 1]))
                << name_of(type) << ", " << threads << " threads, chunks of " << chunk
                << ", position " << done - 1;
          }
        }
      }
    }
  }
}

TEST_P(BackendOn, AQ8CacheStaysNear) {
  const SmallModel model = {};
  const auto tokens = some_tokens(40, 6);
  const auto expected = model.evaluate(tokens);
  const auto backend = start(model, 2, KvType::kQ8_0);
  ASSERT_TRUE(backend);
  const auto got = run_step(*backend, kSegments, {{tokens, 0, kPages}});
  ASSERT_TRUE(got) << got.error().message;
  expect_near(got->logits[0], expected.logits.back(), 0.02);
  // K and V; codes and a scale for each 32; heads, positions, pages
  EXPECT_EQ(backend->memory().kv_bytes, 2u * 34 * 3 * 32 * 32);
}

TEST_P(BackendOn, TokensOfOtherRanksAreZeros) {
  const auto backend = start({.matrix_type = ElementType::kQ8_0}, 1, KvType::kF32);
  ASSERT_TRUE(backend);
  const std::vector<int32_t> tokens = {0, 9, 10, 39, 40, 49, -1, INT32_MAX};
  std::vector<int32_t> positions(8), sequences(8, 0);
  for (size_t i = 0; i < 8; ++i) positions[i] = static_cast<int32_t>(i);
  const std::vector<Role> roles(8, Role::kPrompt);
  const StepBatch batch = {tokens, positions, roles, sequences, {}, {{kPages}}};
  ASSERT_TRUE(backend->run(0, batch));
  const auto rows = backend->rows(kResidual, 0, 8);
  for (size_t r = 0; r < 8; ++r) {
    double sum = 0;
    for (size_t i = 0; i < SmallModel::kHidden; ++i)
      sum += std::fabs(static_cast<double>(rows[r * SmallModel::kHidden + i]));
    EXPECT_EQ(sum > 0, r == 2 || r == 3) << "token " << tokens[r];
  }
}

TEST_P(BackendOn, AnEmptyStepDoesNothing) {
  const auto backend = start({}, 2, KvType::kF16);
  ASSERT_TRUE(backend);
  const StepBatch batch = {{}, {}, {}, {}, {}, {{}}};
  for (size_t segment = 0; segment < kSegments; ++segment)
    EXPECT_TRUE(backend->run(segment, batch));
  EXPECT_TRUE(backend->rows(kLogits, 0, 0).empty());
}

TEST_P(BackendOn, SaysWhatItIsAndHolds) {
  const SmallModel model = {.matrix_type = ElementType::kQ4_0};
  const auto backend = start(model, 2, KvType::kF16);
  ASSERT_TRUE(backend);
  EXPECT_EQ(backend->name(),
            std::string("cpu ") + std::string(isa_name(GetParam())) + ", 2 threads");
  EXPECT_EQ(backend->page_tokens(), 32);
  const BackendMemory memory = backend->memory();
  EXPECT_EQ(memory.kv_bytes,
            2u * 2 * 3 * 32 * 32 * 32);  // K and V, f16, heads, dimension, positions, pages
  uint64_t file_bytes = 0;
  for (const auto& tensor : model.tensors()) file_bytes += tensor.bytes.size();
  EXPECT_GT(memory.weight_bytes, file_bytes / 2);
  EXPECT_LT(memory.weight_bytes, file_bytes * 3 / 2);
  EXPECT_GT(memory.activation_bytes, 0u);
}

INSTANTIATE_TEST_SUITE_P(All, BackendOn, testing::ValuesIn(built_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

// --- what it refuses ---

class Backend1 : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(backend_->prepare(SmallModel{}.program(), limits())); }
  static BackendLimits limits() {
    return {SmallModel::kRows, SmallModel::kWanted, SmallModel::kPositions};
  }
  Error load_error(WeightId weight, ElementType type, int64_t rows, int64_t columns,
                   int64_t extra_bytes = 0) {
    std::vector<std::byte> bytes(
        static_cast<size_t>(static_cast<int64_t>(rows * 4 * columns) + extra_bytes));
    const auto status = backend_->load(weight, {"blk.0.x", type, rows, columns, bytes});
    EXPECT_FALSE(status);
    return status ? Error{} : status.error();
  }
  std::unique_ptr<Backend> backend_ = make_cpu_backend(Isa::kReference, 1);
};

TEST_F(Backend1, RefusesASecondProgram) {
  EXPECT_FALSE(backend_->prepare(SmallModel{}.program(), limits()));
}

TEST_F(Backend1, NamesTheShapeThatItWants) {
  const Error error = load_error(3, ElementType::kF32, 64, 64);
  EXPECT_EQ(error.code, ErrorCode::kCorrupt);
  EXPECT_NE(error.message.find("blk.0.x"), std::string::npos) << error.message;
  EXPECT_NE(error.message.find("64 x 64"), std::string::npos) << error.message;
  EXPECT_NE(error.message.find("192 x 64"), std::string::npos) << error.message;
}

TEST_F(Backend1, RefusesBytesThatTheShapeDoesNotExplain) {
  for (const int64_t extra : {-1, 1, -256}) {
    EXPECT_EQ(load_error(3, ElementType::kF32, 192, 64, extra).code, ErrorCode::kCorrupt) << extra;
  }
  EXPECT_EQ(load_error(3, ElementType::kF32, 0, 64).code, ErrorCode::kCorrupt);
  EXPECT_EQ(backend_->load(3, {"x", ElementType::kF32, INT64_MAX / 2, 64, {}}).error().code,
            ErrorCode::kCorrupt);
  EXPECT_EQ(backend_->load(3, {"x", ElementType::kQ4_K, 192, 64, {}}).error().code,
            ErrorCode::kCorrupt);
  EXPECT_EQ(backend_->load(3, {"x", ElementType::kF32, -192, 64, {}}).error().code,
            ErrorCode::kCorrupt);
}

TEST_F(Backend1, RefusesTypesWithoutKernels) {
  for (const uint32_t id :
       {24u, 27u, 15u, 4u, 4000000000u}) {  // I8, I64, Q8_K, and two that do not exist
    const auto status = backend_->load(3, {"x", static_cast<ElementType>(id), 192, 256, {}});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(status.error().message.find("Q4_K"), std::string::npos)
        << "should list what is supported";
  }
  const auto status = backend_->load(3, {"x", static_cast<ElementType>(16), 192, 256, {}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message,
            "tensor 'x' has the type IQ2_XXS, which is not supported; take the model's Q2_K file "
            "instead");
}

TEST_F(Backend1, LoadsEachWeightOnceAndOnlyItsOwn) {
  const auto bytes = random_tensor(ElementType::kF32, 192, 64, 1);
  EXPECT_FALSE(backend_->load(-1, source_of(ElementType::kF32, 192, 64, bytes)));
  EXPECT_FALSE(backend_->load(12, source_of(ElementType::kF32, 192, 64, bytes)));
  EXPECT_TRUE(backend_->load(3, source_of(ElementType::kF32, 192, 64, bytes)));
  EXPECT_FALSE(backend_->load(3, source_of(ElementType::kF32, 192, 64, bytes)));
}

TEST_F(Backend1, DoesNotRunHalfLoaded) {
  const auto got = run_step(*backend_, kSegments, {{{11}, 0, kPages}});
  ASSERT_FALSE(got);
  EXPECT_NE(got.error().message.find("not loaded"), std::string::npos);
}

TEST_F(Backend1, RefusesAKvCacheThatDoesNotFit) {
  for (const int64_t pages : {int64_t{1} << 40, int64_t{1} << 55, INT64_MAX}) {
    const auto status = backend_->allocate_kv(KvType::kF32, std::span(&pages, 1));
    ASSERT_FALSE(status) << pages;
    EXPECT_EQ(status.error().code, ErrorCode::kDoesNotFit);
  }
  for (const auto& wrong : {std::vector<int64_t>{-1}, std::vector<int64_t>{1, 1}, {}})
    EXPECT_EQ(backend_->allocate_kv(KvType::kF32, wrong).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(Backend1, UntouchedKvCostsNothing) {
  const auto resident_bytes = [] {
    std::ifstream file("/proc/self/statm");
    uint64_t size = 0, resident = 0;
    file >> size >> resident;
    return resident * 4096;
  };
  const uint64_t before = resident_bytes();
  ASSERT_TRUE(backend_->allocate_kv(KvType::kF16, std::vector<int64_t>{2000}));  // 24 MB
  EXPECT_GT(backend_->memory().kv_bytes, 20u << 20);
  EXPECT_LT(resident_bytes() - before, 12u << 20);
}

TEST(BackendBatch, RefusesWhatCannotBeMeant) {
  auto started = SmallModel{}.start(Isa::kReference, 1, KvType::kF32);
  ASSERT_TRUE(started) << started.error().message;
  Backend& backend = **started;
  const auto refused = [&](Chunk chunk, const char* words) {
    const auto got = run_step(backend, kSegments, {std::move(chunk)});
    ASSERT_FALSE(got) << words;
    EXPECT_EQ(got.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(got.error().message.find(words), std::string::npos) << got.error().message;
  };
  refused({{11}, -1, kPages}, "position -1");
  refused({{11}, 200, kPages}, "position 200");
  refused({{11}, 130, kPages}, "has 4 pages");
  refused({{11}, 0, {32}}, "page 32");
  refused({{11}, 40, {-1, 3}}, "page -1");
  refused({some_tokens(41, 1), 0, kPages}, "41 rows");
  EXPECT_FALSE(backend.run(3, {{}, {}, {}, {}, {}, {{}}}));
  const std::vector<int32_t> one = {0}, wanted = {1}, sequence = {1};
  const std::vector<Role> role = {Role::kPrompt};
  EXPECT_FALSE(backend.run(0, {one, one, role, one, wanted, {{kPages}}}));
  EXPECT_FALSE(backend.run(0, {one, one, role, sequence, {}, {{kPages}}}));
  EXPECT_FALSE(backend.run(0, {one, {}, role, one, {}, {{kPages}}}));
  EXPECT_FALSE(backend.run(0, {one, one, role, one, {}, {}}));
  StepBatch part{one, one, role, one, {}, {{kPages}}};
  EXPECT_TRUE(backend.run(0, part));
  part.first_row = 39;
  EXPECT_TRUE(backend.run(0, part));
  for (const int64_t beyond : {int64_t{-1}, int64_t{40}, INT64_MAX}) {
    part.first_row = beyond;
    EXPECT_FALSE(backend.run(0, part)) << beyond;
  }
}

// Pages before a window may be gone.
TEST(BackendBatch, DoesNotLookBeforeTheWindow) {
  auto started = SmallModel{.window = 20}.start(Isa::kReference, 1, KvType::kF32);
  ASSERT_TRUE(started);
  EXPECT_TRUE(run_step(**started, kSegments, {{{11}, 90, {-1, -1, 3}}}));
  EXPECT_FALSE(run_step(**started, kSegments, {{{11}, 70, {-1, -1, 3}}}));
}

TEST(BackendBatch, DoesNotLookBeforeTheChunk) {
  auto started = SmallModel{.window = 64, .chunked = true}.start(Isa::kReference, 1, KvType::kF32);
  ASSERT_TRUE(started);
  EXPECT_TRUE(run_step(**started, kSegments, {{{11}, 64, {-1, -1, 3}}}));
  EXPECT_TRUE(run_step(**started, kSegments, {{{11}, 127, {-1, -1, 3, 5}}}));
  EXPECT_FALSE(run_step(**started, kSegments, {{{11}, 63, {-1, -1, 3}}}));
}

// Of two layers that share a cache the second reads what the first appended, and no keys or values
// of its own.
TEST_P(BackendOn, AttendsToWhatAnotherLayerAppended) {
  const auto twice = [](Program& program) {
    auto& operations = program.segments[1].operations;
    const auto at = operations.begin() + 4;
    Attend again = std::get<Attend>(*at);
    again.appends = false;
    again.k = again.v = -1;
    operations.insert(at + 1, again);
  };
  const SmallModel once, both{.after = twice};
  const auto tokens = some_tokens(20, 5);
  const auto one = start(once, 2, KvType::kF16), other = start(both, 2, KvType::kF16);
  ASSERT_TRUE(one && other);
  const auto a = run_step(*one, kSegments, {{tokens, 0, kPages}});
  const auto b = run_step(*other, kSegments, {{tokens, 0, kPages}});
  ASSERT_TRUE(a && b);
  EXPECT_TRUE(same_bits(a->logits[0], b->logits[0]));
}

}  // namespace
}  // namespace shoal::kernels_test
