// Models in several files: read as one, and every way in which the files may not belong together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "gguf/gguf.h"
#include "gguf/part_name.h"
#include "gguf_writer.h"

namespace shoal::gguf {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
namespace fs = std::filesystem;

constexpr int kTensorCount = 4;

GgufWriter part(int index, int count = 3, int tensor_count = kTensorCount) {
  GgufWriter writer;
  if (index == 0) writer.add("general.architecture", "llama").add("general.name", "Test");
  writer.add("split.no", static_cast<uint16_t>(index))
      .add("split.count", static_cast<uint16_t>(count))
      .add("split.tensors.count", tensor_count);
  return writer;
}

std::vector<float> values(float first) {
  return {first, first + 1, first + 2, first + 3};
}

// The first part holds no tensor, as llama.cpp's splitter can be told to write it.
std::vector<std::string> good_parts() {
  return {part(0).finish(),
          part(1).tensor("b", {4}, values(10)).tensor("d", {2, 2}, values(20)).finish(),
          part(2).tensor("c", {4}, values(30)).tensor("a", {4}, values(40)).finish()};
}

class GgufSplit : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "shoal-split-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(int number, int count = 3) const {
    return part_path({(folder_ / "m").string(), 1, count}, number);
  }
  static void write(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  void write_all(const std::vector<std::string>& parts) const {
    for (size_t i = 0; i < parts.size(); ++i)
      write(path(static_cast<int>(i) + 1, static_cast<int>(parts.size())), parts[i]);
  }
  static Error refused(const std::string& path) {
    const auto file = File::open(path);
    EXPECT_FALSE(file.has_value()) << path;
    return file ? Error{} : file.error();
  }

  fs::path folder_;
};

TEST_F(GgufSplit, AnyPartOpensTheWhole) {
  write_all(good_parts());
  uint64_t size_bytes = 0;
  for (const std::string& bytes : good_parts()) size_bytes += bytes.size();
  for (int number = 1; number <= 3; ++number) {
    const auto file = File::open(path(number));
    ASSERT_TRUE(file.has_value()) << file.error().message;
    EXPECT_EQ(file->path(), path(1));
    EXPECT_EQ(file->part_count(), 3u);
    EXPECT_EQ(file->size_bytes(), size_bytes);
    EXPECT_EQ(file->string("general.name"), "Test");
    ASSERT_EQ(file->tensors().size(), 4u);
    const std::map<std::string, float> first = {{"a", 40}, {"b", 10}, {"c", 30}, {"d", 20}};
    for (const auto& [name, value] : first) {
      const TensorInfo* info = file->find_tensor(name);
      ASSERT_NE(info, nullptr) << name;
      const auto tensor = file->tensor(name);
      ASSERT_TRUE(tensor.has_value());
      float got[4];
      std::memcpy(got, tensor->bytes.data(), sizeof got);
      EXPECT_THAT(got, ElementsAre(value, value + 1, value + 2, value + 3));
      file->release(*info);
    }
  }
}

TEST_F(GgufSplit, TheSameFromMemory) {
  const auto parts = good_parts();
  std::vector<File::NamedBytes> named;
  for (const std::string& bytes : parts) named.push_back({as_bytes(bytes), "part"});
  const auto file = File::parse_parts(named);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->tensors().size(), 4u);
}

TEST_F(GgufSplit, AMissingPartIsNamed) {
  write_all(good_parts());
  fs::remove(path(2));
  for (const int number : {1, 3}) {
    const Error error = refused(path(number));
    EXPECT_EQ(error.code, ErrorCode::kNotFound);
    EXPECT_THAT(error.message, AllOf(HasSubstr(path(2) + " is missing"), HasSubstr("3 parts")));
  }
}

TEST_F(GgufSplit, FilesThatDoNotBelongTogetherAreNamed) {
  struct Case {
    int number;  // of the part that is replaced
    std::string bytes;
    std::string sentence;
    int named = 0;  // the part that the sentence names first; 0: the replaced one
  };
  const auto b_d = [](GgufWriter writer) {
    return writer.tensor("b", {4}, values(10)).tensor("d", {2, 2}, values(20)).finish();
  };
  const std::vector<Case> cases = {
      {2, b_d(part(2)), "is part 3 of 3 by its metadata, where part 2 is expected"},
      {2, b_d(part(1, 4)), "in 4 parts by its metadata"},
      {2, b_d(part(1, 3, 9)), "is a part of a model of 9 tensors"},
      {2, b_d(part(1).add("general.architecture", "qwen2")), "parts of different models"},
      {2, b_d(part(1).add("general.name", "Else")), "\"Else\", and \"Test\""},
      {2, b_d(GgufWriter()), "is a whole model by its metadata, where part 2 of 3"},
      {2, part(1).tensor("b", {4}, values(1)).finish(), "hold 3 tensors together", 1},
      {3, part(2).tensor("b", {4}, values(1)).tensor("a", {4}, values(1)).finish(),
       "the tensor \"b\" is in"},
      {3, good_parts()[2].substr(0, good_parts()[2].size() - 4), "cut short"},
  };
  for (const Case& bad : cases) {
    write_all(good_parts());
    write(path(bad.number), bad.bytes);
    const Error error = refused(path(1));
    EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
    EXPECT_THAT(error.message, AllOf(StartsWith(path(bad.named > 0 ? bad.named : bad.number)),
                                     HasSubstr(bad.sentence)));
  }
}

TEST_F(GgufSplit, NamesThatSayOtherwiseThanTheFile) {
  write_all(good_parts());
  const std::string renamed = (folder_ / "renamed.gguf").string();
  write(renamed, good_parts()[1]);
  EXPECT_THAT(refused(renamed).message, AllOf(HasSubstr(renamed), HasSubstr("part 2 of 3"),
                                              HasSubstr("NAME-00002-of-00003")));
  write(path(3), good_parts()[1]);
  EXPECT_THAT(refused(path(3)).message,
              AllOf(HasSubstr(path(3)), HasSubstr("part 3 of 3 by its name"),
                    HasSubstr("part 2 of 3 by its metadata")));
}

TEST_F(GgufSplit, CountsThatCannotBe) {
  for (const auto& [number, count] : {std::pair{3, 3}, {-1, 3}, {0, -2}, {0, 1 << 30}}) {
    const std::string bytes =
        GgufWriter().add("split.no", number).add("split.count", count).finish();
    const auto file = File::parse(as_bytes(bytes), "t.gguf");
    ASSERT_FALSE(file.has_value());
    EXPECT_EQ(file.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(file.error().message, HasSubstr("t.gguf: the metadata key \"split."));
  }
}

TEST(GgufPartName, Forms) {
  const auto name = parse_part_name("dir/m-Q8_0-00002-of-00013.gguf");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->prefix, "dir/m-Q8_0");
  EXPECT_EQ(name->number, 2);
  EXPECT_EQ(name->count, 13);
  EXPECT_EQ(part_path(*name, 13), "dir/m-Q8_0-00013-of-00013.gguf");
  EXPECT_THAT(part_paths("m-00002-of-00002.gguf"),
              ElementsAre("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"));
  EXPECT_EQ(name_without_part("dir/m-00002-of-00002.gguf"), "dir/m.gguf");
  EXPECT_EQ(name_without_part("dir/m.gguf"), "dir/m.gguf");
  for (const char* other : {"", "m.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf",
                            "m-0001-of-0002.gguf", "m-0000a-of-00002.gguf", "m-00001-of-00002.bin",
                            "-00001-of-00002.gguf", "m-00001_of-00002.gguf"}) {
    EXPECT_FALSE(parse_part_name(other).has_value()) << other;
    EXPECT_TRUE(part_paths(other).empty()) << other;
  }
  EXPECT_TRUE(part_paths("m-00001-of-00001.gguf").empty()) << "one part is a file like any other";
}

// What decides whether the beginning of a file, fetched over a network, is enough.
TEST(GgufHeader, ABeginningSaysHowMuchIsWanted) {
  const std::string bytes = GgufWriter()
                                .add("general.architecture", "llama")
                                .add_strings("t", {"one", "two", "three"})
                                .add_array<float>("f", {1, 2, 3})
                                .tensor("v", {4}, values(1))
                                .finish();
  const uint64_t end = bytes.size() - 16 - 32;  // at most a padding before the data
  for (size_t length = 0; length <= bytes.size(); ++length) {
    const auto wanted = File::header_bytes(as_bytes(bytes).first(length), bytes.size(), "t.gguf");
    ASSERT_TRUE(wanted.has_value()) << wanted.error().message;
    EXPECT_LE(*wanted, bytes.size());
    EXPECT_TRUE(length >= end || *wanted > length) << length;
    EXPECT_TRUE(length < bytes.size() || *wanted < length);
  }
  EXPECT_FALSE(File::header_bytes(as_bytes(bytes).first(10), 10, "t.gguf").has_value());
  EXPECT_FALSE(
      File::header_bytes(as_bytes(std::string("<html>")), 1'000'000, "t.gguf").has_value());
  const std::string lie = bytes.substr(0, 8) + std::string(8, '\xff') + bytes.substr(16);
  EXPECT_FALSE(File::header_bytes(as_bytes(lie), 1'000'000'000, "t.gguf").has_value());
}

}  // namespace
}  // namespace shoal::gguf
