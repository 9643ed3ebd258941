// Files of every architecture with one thing wrong: each is refused with a sentence, or gives a
// program that a backend takes. Nothing crashes and nothing hangs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/bytes.h"
#include "base/file.h"
#include "kernels/program_check.h"
#include "models/model.h"

namespace shoal {
namespace {

constexpr int64_t kContext = 64;

std::vector<std::string> model_files() {
  std::vector<std::string> files;
  for (const char* folder : {"llama", "models"}) {
    const std::string path = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/" + folder;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".gguf") files.push_back(entry.path().string());
    }
  }
  std::ranges::sort(files);
  return files;
}

// Describes and, where that is accepted, builds and checks the program of every rank.
void try_model(const std::string& bytes, const std::string& what) {
  SCOPED_TRACE(what);
  const auto file = gguf::File::parse(as_bytes(bytes), "patched.gguf");
  if (!file) return;
  const auto model = describe(*file);
  if (!model) {
    EXPECT_GT(model.error().message.size(), 20u);
    return;
  }
  const ModelCard card = model_card(*file, *model);
  const auto back = model_card_from_json(to_json(card));
  ASSERT_TRUE(back) << back.error().message;
  for (const std::vector<double>& shares : std::vector<std::vector<double>>{{1}, {2, 1}}) {
    const auto cuts = partition(card, shares);
    if (!cuts) continue;
    for (const RankCut& cut : *cuts) {
      const auto program = build_program(*model, cut, kContext);
      ASSERT_TRUE(program) << program.error().message;
      const auto shapes = kernels::check_program(*program, {8, 8, kContext});
      EXPECT_TRUE(shapes) << shapes.error().message;
      for (const WeightSpec& weight : program->weights)
        EXPECT_NE(file->find_tensor(weight.tensor), nullptr) << weight.tensor;
    }
  }
}

size_t place_of(const std::string& bytes, std::string_view name) {
  std::string wanted(8, 0);
  const uint64_t length = name.size();
  std::memcpy(wanted.data(), &length, sizeof length);
  return bytes.find(wanted + std::string(name));
}

class Hostile : public testing::TestWithParam<std::string> {};

TEST_P(Hostile, WithoutAKeyOrWithAnotherNumber) {
  const std::string bytes = *read_file(GetParam(), 1 << 24);
  const auto file = gguf::File::parse(as_bytes(bytes), "good.gguf");
  ASSERT_TRUE(file) << file.error().message;
  for (const gguf::File::Entry& entry : file->metadata()) {
    if (entry.key.starts_with("tokenizer.") || entry.key.starts_with("general.")) continue;
    const size_t at = place_of(bytes, entry.key);
    ASSERT_NE(at, std::string::npos);
    std::string renamed = bytes;
    renamed[at + 8] = '_';
    try_model(renamed, fmt::format("without {}", entry.key));
    const size_t value = at + 8 + entry.key.size() + 4;
    if (std::holds_alternative<uint32_t>(entry.value)) {
      for (const uint32_t number : {0u, 1u, 2u, 3u, 7u, 1000u, 0x7fffffffu, 0xffffffffu}) {
        std::string other = bytes;
        std::memcpy(other.data() + value, &number, sizeof number);
        try_model(other, fmt::format("{} = {}", entry.key, number));
      }
    } else if (std::holds_alternative<float>(entry.value)) {
      for (const float number : {0.0f, 1.0f, -1.0f, 1e30f, __builtin_inff(), __builtin_nanf("")}) {
        std::string other = bytes;
        std::memcpy(other.data() + value, &number, sizeof number);
        try_model(other, fmt::format("{} = {}", entry.key, number));
      }
    }
  }
}

// A tensor of one layer, or of all, goes by another name that the architecture knows too, or by
// none.
TEST_P(Hostile, WithoutATensor) {
  const std::string bytes = *read_file(GetParam(), 1 << 24);
  const auto file = gguf::File::parse(as_bytes(bytes), "good.gguf");
  ASSERT_TRUE(file) << file.error().message;
  for (const gguf::TensorInfo& tensor : file->tensors()) {
    const size_t at = place_of(bytes, tensor.name);
    ASSERT_NE(at, std::string::npos);
    std::string renamed = bytes;
    renamed[at + 8] = '_';
    try_model(renamed, fmt::format("without {}", tensor.name));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Hostile, testing::ValuesIn(model_files()), [](const auto& info) {
  const std::filesystem::path path(info.param);
  return path.parent_path().filename().string() + "_" + path.stem().string();
});

}  // namespace
}  // namespace shoal
