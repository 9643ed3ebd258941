// What a good file gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "gguf/gguf.h"
#include "gguf_writer.h"

namespace shoal::gguf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

GgufWriter sample(uint32_t version = 3) {
  GgufWriter writer(version);
  writer.add("general.architecture", "llama")
      .add("a.u8", uint8_t{200})
      .add("a.i8", int8_t{-3})
      .add("a.u16", uint16_t{60000});
  writer.add("a.i16", int16_t{-30000})
      .add("a.u32", uint32_t{4000000000})
      .add("a.i32", int32_t{-5})
      .add("a.f32", 0.5f);
  writer.add("a.bool", true).add("a.u64", UINT64_MAX).add("a.i64", INT64_MIN).add("a.f64", 0.25);
  writer.add_strings("a.texts", {"one", "", "three"});
  writer.add_array<int32_t>("a.ints", {1, -2, 3})
      .add_array<float>("a.floats", {0.5f, 1.5f})
      .add_array<bool>("a.bools", {true, false});
  writer.tensor("m", {4, 2}, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8});
  writer.tensor("q", 8, {32, 3, 2}, std::string(6 * 34, 'q'));
  writer.tensor("other", 17, {256}, std::string(74, 'k'));
  return writer;
}

TEST(GgufReading, VersionsTwoAndThreeOpen) {
  for (const uint32_t version : {2u, 3u}) {
    const std::string bytes = sample(version).finish();
    const auto file = File::parse(as_bytes(bytes), "t.gguf");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->version(), version);
    EXPECT_EQ(file->alignment(), 32u);
    EXPECT_EQ(file->size_bytes(), bytes.size());
    EXPECT_EQ(file->metadata().size(), 16u);
    EXPECT_EQ(file->metadata()[0].key, "general.architecture");
    EXPECT_EQ(file->tensors().size(), 3u);
  }
}

TEST(GgufReading, NumbersOfAnyWidthConvertWhenTheyFit) {
  const std::string bytes = sample().finish();
  const auto file = File::parse(as_bytes(bytes), "t.gguf");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->integer("a.u8"), 200);
  EXPECT_EQ(file->integer("a.i8"), -3);
  EXPECT_EQ(file->integer("a.u16"), 60000);
  EXPECT_EQ(file->integer("a.i16"), -30000);
  EXPECT_EQ(file->integer("a.u32"), 4000000000);
  EXPECT_EQ(file->integer("a.i64"), INT64_MIN);
  EXPECT_EQ(file->number("a.f32"), 0.5);
  EXPECT_EQ(file->number("a.f64"), 0.25);
  EXPECT_EQ(file->number("a.i32"), -5.0);
  EXPECT_EQ(file->boolean("a.bool"), true);
  EXPECT_EQ(file->string("general.architecture"), "llama");
  EXPECT_THAT(*file->strings("a.texts"), ElementsAre("one", "", "three"));
  EXPECT_THAT(*file->integers("a.ints"), ElementsAre(1, -2, 3));
  EXPECT_THAT(*file->integers("a.i32"), ElementsAre(-5));
  EXPECT_THAT(*file->numbers("a.floats"), ElementsAre(0.5, 1.5));
  EXPECT_THAT(*file->numbers("a.f32"), ElementsAre(0.5));
}

TEST(GgufReading, AValueOfAnotherKindIsNamedWithFileAndKey) {
  const std::string bytes = sample().finish();
  const auto file = File::parse(as_bytes(bytes), "t.gguf");
  ASSERT_TRUE(file);
  EXPECT_EQ(
      file->integer("a.u64").error().message,
      "t.gguf: the metadata key \"a.u64\" must be an integer below 2^63, not 18446744073709551615");
  EXPECT_EQ(file->integer("a.f32").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(file->integer("a.bool").error().message,
            "t.gguf: the metadata key \"a.bool\" must be an integer below 2^63, not bool");
  EXPECT_EQ(file->string("a.ints").error().message,
            "t.gguf: the metadata key \"a.ints\" must be a text, not an array of 3 int32");
  EXPECT_FALSE(file->strings("a.ints"));
  EXPECT_FALSE(file->integers("a.texts"));
  EXPECT_FALSE(file->integers("a.floats"));
  EXPECT_FALSE(file->integers("a.bools"));
  EXPECT_FALSE(file->numbers("a.texts"));
  EXPECT_FALSE(file->boolean("a.u8"));
  const auto missing = file->number("a.nothing");
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().message, "t.gguf: the metadata key \"a.nothing\" is missing");
}

TEST(GgufReading, TensorsAreRowsOfColumns) {
  const std::string bytes = sample().finish();
  const auto file = File::parse(as_bytes(bytes), "t.gguf");
  ASSERT_TRUE(file);
  const auto matrix = file->tensor("m");
  ASSERT_TRUE(matrix);
  EXPECT_EQ(matrix->rows, 2);
  EXPECT_EQ(matrix->columns, 4);
  EXPECT_EQ(matrix->bytes.size(), 32u);
  float last;
  std::memcpy(&last, matrix->bytes.data() + 28, 4);
  EXPECT_EQ(last, 8);
  const auto stack = file->tensor("q");
  ASSERT_TRUE(stack);
  EXPECT_EQ(stack->rows, 6);
  EXPECT_EQ(stack->columns, 32);
  EXPECT_EQ(as_text(stack->bytes), std::string(6 * 34, 'q'));
}

TEST(GgufReading, ATensorWithoutKernelsIsDescribedButNotGiven) {
  const std::string bytes = sample().finish();
  const auto file = File::parse(as_bytes(bytes), "t.gguf");
  ASSERT_TRUE(file);
  ASSERT_NE(file->find_tensor("other"), nullptr);
  EXPECT_EQ(file->find_tensor("other")->size_bytes, 74u);
  const auto refused = file->tensor("other");
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(refused.error().message,
            "t.gguf: the tensor \"other\" has the type IQ2_XS, which is not supported; take the "
            "model's Q2_K file instead");
  EXPECT_EQ(file->tensor("absent").error().message, "t.gguf has no tensor \"absent\"");
}

TEST(GgufReading, ATypeThatTheFormatDoesNotKnowIsNamedByNumber) {
  const std::string bytes = GgufWriter().tensor("new", 900, {7}, "seven b").finish();
  const auto file = File::parse(as_bytes(bytes), "t.gguf");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors()[0].size_bytes, 0u);
  EXPECT_THAT(file->tensor("new").error().message,
              HasSubstr("has the type number 900, which this version does not know"));
}

TEST(GgufReading, OtherAlignmentsAreFollowed) {
  for (const uint32_t alignment : {1u, 8u, 64u, 4096u}) {
    GgufWriter writer(3, alignment);
    writer.add("general.alignment", alignment);
    writer.tensor("a", {3}, std::vector<float>{1, 2, 3}).tensor("b", {1}, std::vector<float>{4});
    const std::string bytes = writer.finish();
    const auto file = File::parse(as_bytes(bytes), "t.gguf");
    ASSERT_TRUE(file) << file.error().message;
    float value;
    std::memcpy(&value, file->tensor("b")->bytes.data(), 4);
    EXPECT_EQ(value, 4);
  }
}

TEST(GgufReading, AVocabularyAloneIsAFile) {
  const std::string bytes = GgufWriter().add("general.architecture", "llama").finish();
  const auto file = File::parse(as_bytes(bytes), "t.gguf");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE(file->tensors().empty());
}

TEST(GgufReading, AFileOnDiskStaysReadableAfterMovesAndReleases) {
  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("shoal_gguf_{}.gguf", ::getpid());
  GgufWriter writer;
  std::vector<float> values(20000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  writer.add("general.name", "on disk").tensor("v", {200, 100}, values);
  std::ofstream(path, std::ios::binary) << writer.finish();
  auto opened = File::open(path.string());
  ASSERT_TRUE(opened) << opened.error().message;
  const File file = std::move(*opened);
  std::filesystem::remove(path);
  EXPECT_EQ(file.path(), path.string());
  for (int turn = 0; turn < 2; ++turn) {
    EXPECT_EQ(file.string("general.name"), "on disk");
    const auto tensor = file.tensor("v");
    ASSERT_TRUE(tensor);
    EXPECT_EQ(std::memcmp(tensor->bytes.data(), values.data(), values.size() * 4), 0);
    file.release(file.tensors()[0]);  // the pages go; reading again brings them back
  }
}

TEST(GgufReading, NoFileADirectoryAndAnEmptyFileHaveTheirSentences) {
  EXPECT_EQ(File::open("/nonexistent/x.gguf").error().code, ErrorCode::kNotFound);
  EXPECT_THAT(File::open("/").error().message, HasSubstr("is a directory"));
  EXPECT_EQ(File::parse({}, "t.gguf").error().message, "t.gguf is empty; download it again");
}

TEST(GgufReading, TextsFromFilesAreSafeInSentences) {
  EXPECT_EQ(printable("plain"), "\"plain\"");
  EXPECT_EQ(printable("a\n\"\x1b[31m\xff"), "\"a\\x0a\\\"\\x1b[31m\\xff\"");
  EXPECT_EQ(printable(std::string(200, 'x')), "\"" + std::string(80, 'x') + "...\"");
}

}  // namespace
}  // namespace shoal::gguf
