#include "cli/bench.h"

#include <gtest/gtest.h>

#include <sstream>

#include "cli/bench_text.h"

namespace shoal::cli {
namespace {

const std::string kModel = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/llama/plain.gguf";

BenchOptions small() {
  BenchOptions options;
  options.model_path = kModel;
  options.prompt_tokens = {5};
  options.output_tokens = {3};
  options.repeat = 1;
  options.threads = 1;
  options.isa = "reference";
  options.probe_s = 0.001;
  return options;
}

Result<BenchReport> measured(const BenchOptions& options) {
  return bench(options, [](const std::string&, uint64_t, uint64_t) { return true; });
}

void expect_refused(const BenchOptions& options, ErrorCode code, const std::string& words) {
  const auto refused = measured(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, code);
  EXPECT_NE(refused.error().message.find(words), std::string::npos) << refused.error().message;
}

// --- lists ---

TEST(Counts, AreReadInTheOrderGiven) {
  EXPECT_EQ(parse_counts("--batch", "8", 1, 256), std::vector<int64_t>{8});
  EXPECT_EQ(parse_counts("--batch", "8,1,256", 1, 256), (std::vector<int64_t>{8, 1, 256}));
}

TEST(Counts, WhatIsNoneIsRefusedWithTheWord) {
  for (const char* text : {"", ",", "1,", ",1", "1,,2", "x", "1x", "1.5", " 1", "1, 2", "0x10", "-",
                           "+1", "99999999999999999999x"}) {
    const auto refused = parse_counts("--batch", text, 1, 256);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refused.error().message.find("--batch takes whole numbers"), std::string::npos)
        << refused.error().message;
  }
  for (const char* text : {"0", "257", "-1", "8,0", "99999999999999999999"}) {
    const auto refused = parse_counts("--batch", text, 1, 256);
    ASSERT_FALSE(refused) << text;
    EXPECT_NE(refused.error().message.find("from 1 to 256"), std::string::npos)
        << refused.error().message;
  }
}

// --- measuring ---

TEST(Bench, MeasuresEveryCombination) {
  BenchOptions options = small();
  options.prompt_tokens = {5, 250};
  options.batches = {1, 3};
  options.contexts = {40, 0};
  const auto report = measured(options);
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_EQ(report->results.size(), 8u);
  EXPECT_EQ(report->results[0].prompt_tokens, 5);
  EXPECT_EQ(report->results[0].batch, 1);
  EXPECT_EQ(report->results[0].context, 40);
  EXPECT_EQ(report->results[7].prompt_tokens, 250);
  EXPECT_EQ(report->results[7].batch, 3);
  EXPECT_EQ(report->results[7].context, 0);
  for (const BenchResult& result : report->results) {
    EXPECT_GT(result.prefill.tokens_per_s, 0);
    EXPECT_GT(result.decode.tokens_per_s, 0);
    EXPECT_GT(result.probe_read_bytes_per_s, 0);
    EXPECT_GT(result.peak_multiply_adds_per_s, 0);
    EXPECT_TRUE(result.prefill.parts.empty());
    // What a run read and multiplied is known whatever it took.
    EXPECT_GT(result.decode.read_bytes_per_s * result.decode.seconds,
              0.9 * 3 * static_cast<double>(report->memory.weight_bytes - 261 * 64 * 4));
  }
  EXPECT_GT(report->load_s, 0);
  EXPECT_EQ(report->threads, 1);
  EXPECT_EQ(report->file, "plain.gguf");
}

TEST(Bench, LongerCachesAreReadMore) {
  BenchOptions options = small();
  options.contexts = {0, 200};
  const auto report = measured(options);
  ASSERT_TRUE(report) << report.error().message;
  const auto read = [&](size_t i) {
    const BenchSpeed& decode = report->results[i].decode;
    return decode.read_bytes_per_s * decode.seconds;
  };
  const double positions = 3 * 200;  // more, of the three tokens together
  const double kv =
      static_cast<double>(kv_bytes(report->model, whole(report->model), KvType::kF16, 32, 256)) /
      32;
  EXPECT_NEAR(read(1) - read(0), positions * kv, 1e-3 * positions * kv);
}

TEST(Bench, ProfileSharesAddUp) {
  BenchOptions options = small();
  options.profile = true;
  const auto report = measured(options);
  ASSERT_TRUE(report) << report.error().message;
  const Json json = to_json(*report);
  for (const char* phase : {"prefill", "decode"}) {
    double sum = 0;
    std::vector<std::string> names;
    for (const Json& part : json.at("results").at(0).at("profile").at(phase)) {
      sum += part.at("share").get<double>();
      names.push_back(part.at("part"));
    }
    EXPECT_NEAR(sum, 1, 1e-9);
    for (const char* name :
         {"attention products", "feed-forward products", "head products", "attention", "norms",
          "rope", "embedding", "gate", "candidates", "collectives"}) {
      EXPECT_EQ(std::ranges::count(names, name), 1) << name;
    }
  }
}

TEST(Bench, CountsBeyondTheTrainedContextAreRefusedWithTheNumbers) {
  BenchOptions options = small();
  options.prompt_tokens = {5, 257};
  expect_refused(options, ErrorCode::kInvalidArgument, "--prompt-tokens 257");
  options = small();
  options.contexts = {254};
  expect_refused(options, ErrorCode::kInvalidArgument, "256 tokens");
  options.contexts = {253};
  EXPECT_TRUE(measured(options));
}

TEST(Bench, AMissingModelIsNamed) {
  BenchOptions options = small();
  options.model_path = "/nowhere/model.gguf";
  expect_refused(options, ErrorCode::kNotFound, "/nowhere/model.gguf");
}

TEST(Bench, CanBeStoppedBetweenSteps) {
  int calls = 0;
  const auto stopped = bench(small(), [&](const std::string& phase, uint64_t, uint64_t) {
    return phase == "loading" || ++calls < 3;
  });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(calls, 3);
}

// --- the report ---

BenchReport fast_machine() {
  BenchReport report;
  report.file = "Some-Model-235B-Instruct.gguf";
  report.model = {.name = "A model\033[2J", .architecture = "llama", .quantisation = "Q4_K"};
  report.threads = 128;
  report.isa = Isa::kAmx;
  report.repeat = 3;
  report.load_s = 0.2871;
  report.load_bytes_per_s = 123.4e9;
  report.memory = {999'900'000'000, 8'360'000, 999'900'000};
  report.peak_numbers = "int8";
  BenchSpeed speed = {.seconds = 2,
                      .tokens_per_s = 123456.7,
                      .read_bytes_per_s = 1.2345e12,
                      .multiply_adds_per_s = 0.9e15};
  speed.parts = {{"feed-forward products", 600, 1000, 7e14, 5e17}, {"norms", 400, 1000, 1e6, 0}};
  report.results = {{.prompt_tokens = 131072,
                     .output_tokens = 131072,
                     .batch = 256,
                     .context = 1048576,
                     .prefill = speed,
                     .decode = speed,
                     .probe_read_bytes_per_s = 1.3e12,
                     .peak_multiply_adds_per_s = 1e15}};
  return report;
}

TEST(BenchText, FitsEightyColumnsOnTheFastestMachines) {
  const std::string text = to_text(fast_machine());
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
  EXPECT_EQ(text.find('\033'), std::string::npos) << "a name from a file writes to the terminal";
  EXPECT_NE(text.find("131072 131072   256 1048576"), std::string::npos) << text;
  EXPECT_NE(text.find("90.0%"), std::string::npos) << text;  // of the peak
  EXPECT_NE(text.find("95.0%"), std::string::npos) << text;  // of the probe
  EXPECT_NE(text.find("prefill of 131072 tokens"), std::string::npos) << text;
  EXPECT_NE(text.find("60.0%"), std::string::npos) << text;  // the products' share of the time
}

TEST(BenchText, JsonHasThePromisedNames) {
  const Json json = to_json(fast_machine());
  const Json& row = json.at("results").at(0);
  for (const char* name :
       {"prompt_tokens", "output_tokens", "batch", "context", "threads", "ranks", "isa", "link",
        "prefill_tokens_per_s", "decode_tokens_per_s", "read_bytes_per_s", "decode_bytes_per_s",
        "peak_operations_per_s", "prefill_operations_per_s", "profile"}) {
    EXPECT_TRUE(row.contains(name)) << name;
  }
  EXPECT_TRUE(json.contains("load_s") && json.contains("load_bytes_per_s"));
  EXPECT_EQ(row.at("isa"), "amx");
  EXPECT_EQ(row.at("ranks"), 1);
  EXPECT_EQ(row.at("peak_operations_per_s"), 2e15);  // a multiply-add is two
  EXPECT_EQ(row.at("prefill_operations_per_s"), 1.8e15);
}

}  // namespace
}  // namespace shoal::cli
