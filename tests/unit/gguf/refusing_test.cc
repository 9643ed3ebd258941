// What a bad file gives: a sentence that names the file, the field and the offset; never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "gguf/gguf.h"
#include "gguf_writer.h"

namespace shoal::gguf {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

Error refused(std::string_view bytes) {
  // An exact copy on the heap, so that a sanitizer sees a read past the end.
  const std::vector<char> copy(bytes.begin(), bytes.end());
  const auto file = File::parse(std::as_bytes(std::span(copy)), "t.gguf");
  if (file) {
    ADD_FAILURE() << "opened";
    return {};
  }
  EXPECT_THAT(file.error().message, StartsWith("t.gguf"));
  return file.error();
}

GgufWriter small() {
  GgufWriter writer;
  writer.add("general.architecture", "llama").add("flag", true).add_strings("texts", {"ab", "c"});
  writer.add_array<uint16_t>("numbers", {1, 2, 3}).add("pi", 3.14f);
  writer.tensor("first", {8}, std::vector<float>(8, 1.0f))
      .tensor("second", 2, {32, 2}, std::string(36, 'x'));
  return writer;
}

TEST(GgufRefusing, AFileCutAtAnyByteIsSaidToBeCut) {
  const std::string whole = small().finish();
  ASSERT_TRUE(File::parse(as_bytes(whole), "t.gguf"));
  for (size_t size = 1; size < whole.size(); ++size) {
    const Error error = refused(whole.substr(0, size));
    EXPECT_EQ(error.code, ErrorCode::kCorrupt) << size << ": " << error.message;
    EXPECT_THAT(error.message, HasSubstr("offset")) << size;
  }
}

TEST(GgufRefusing, NoByteChangedToAnyValueCrashes) {
  const std::string whole = small().finish();
  for (size_t at = 0; at < whole.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::vector<char> changed(whole.begin(), whole.end());
      changed[at] = static_cast<char>(value);
      const auto file = File::parse(std::as_bytes(std::span(changed)), "t.gguf");
      if (!file) {
        EXPECT_THAT(file.error().message, StartsWith("t.gguf: ")) << at;
        continue;
      }
      for (const TensorInfo& tensor : file->tensors()) {
        EXPECT_LE(tensor.offset + tensor.size_bytes, changed.size());
        (void)file->tensor(tensor.name);
      }
      (void)file->strings("texts");
      (void)file->integers("numbers");
    }
  }
}

TEST(GgufRefusing, ManyBytesChangedAtOnceDoNotCrash) {
  const std::string whole = small().finish();
  for (uint64_t round = 0; round < 20000; ++round) {
    std::vector<char> changed(whole.begin(), whole.end());
    for (uint64_t i = 0; i < 1 + round % 8; ++i) {
      const auto draw = philox(1, round, i);
      static constexpr char kNasty[] = {0, 1, 2, 8, 9, 127, -128, -1};
      changed[draw[0] % changed.size()] =
          draw[1] % 2 == 0 ? static_cast<char>(draw[2]) : kNasty[draw[2] % 8];
    }
    (void)File::parse(std::as_bytes(std::span(changed)), "t.gguf");
  }
}

TEST(GgufRefusing, OtherFormatsAreNamed) {
  EXPECT_THAT(refused("version https://git-lfs.github.com/spec/v1\n").message,
              HasSubstr("Git LFS pointer"));
  EXPECT_THAT(refused("<!DOCTYPE html><html>").message, HasSubstr("web page"));
  EXPECT_THAT(refused(std::string("PK\x03\x04zip")).message, HasSubstr("zip archive"));
  EXPECT_THAT(refused("tjggxxxx").message, HasSubstr("GGJT"));
  EXPECT_THAT(refused(little_endian<uint64_t>(40) + "{\"a\":{\"dtype\"").message,
              HasSubstr("safetensors"));
  const Error other = refused("something else entirely");
  EXPECT_EQ(other.code, ErrorCode::kCorrupt);
  EXPECT_EQ(other.message,
            "t.gguf: the magic at offset 0: \"some\" instead of \"GGUF\"; this is not a model in "
            "the GGUF format");
}

TEST(GgufRefusing, OtherVersionsAndByteOrdersAreNamed) {
  const auto with_version = [](uint32_t version) {
    return refused(GgufWriter(version).add("a", true).finish());
  };
  EXPECT_THAT(with_version(1).message, HasSubstr("GGUF version 1 is not supported, only 2 and 3"));
  EXPECT_THAT(with_version(4).message, HasSubstr("GGUF version 4 is not supported, only 2 and 3"));
  EXPECT_THAT(with_version(0x03000000).message, HasSubstr("big-endian (GGUF version 3)"));
  EXPECT_THAT(with_version(0).message, HasSubstr("GGUF version 0"));
  EXPECT_EQ(with_version(0x03000000).code, ErrorCode::kUnsupported);
}

TEST(GgufRefusing, CountsThatTheFileCannotHold) {
  for (const uint64_t count : {uint64_t{6}, uint64_t{1} << 32, uint64_t{1} << 63, UINT64_MAX}) {
    GgufWriter tensors = small();
    tensors.tensor_count = count;
    EXPECT_EQ(refused(tensors.finish()).code, ErrorCode::kCorrupt);
    GgufWriter entries = small();
    entries.entry_count = count;
    EXPECT_EQ(refused(entries.finish()).code, ErrorCode::kCorrupt);
  }
  GgufWriter hostile = small();
  hostile.tensor_count = UINT64_MAX;
  EXPECT_THAT(refused(hostile.finish()).message,
              HasSubstr("the number of tensors at offset 8: 18446744073709551615 tensors"));
}

TEST(GgufRefusing, LengthsThatTheFileCannotHold) {
  for (const uint64_t length : {uint64_t{100}, uint64_t{1} << 40, UINT64_MAX - 4, UINT64_MAX}) {
    EXPECT_THAT(
        refused(GgufWriter().raw("text", 8, little_endian(length) + "abc").finish()).message,
        AllOf(HasSubstr("the value of \"text\" at offset 40"),
              HasSubstr("runs past the end of the file")));
    EXPECT_THAT(
        refused(GgufWriter().raw("list", 9, little_endian(4u) + little_endian(length)).finish())
            .message,
        AllOf(HasSubstr("the array \"list\" at offset 40"),
              HasSubstr("of type uint32 cannot lie")));
    EXPECT_THAT(
        refused(GgufWriter().raw("list", 9, little_endian(8u) + little_endian(length)).finish())
            .message,
        HasSubstr("of type string cannot lie"));
    EXPECT_EQ(
        refused(GgufWriter()
                    .raw("list", 9,
                         little_endian(8u) + little_endian(uint64_t{1}) + little_endian(length))
                    .finish())
            .code,
        ErrorCode::kCorrupt);
  }
}

TEST(GgufRefusing, TypesThatAreNone) {
  EXPECT_EQ(refused(GgufWriter().raw("k", 13, std::string(16, '\0')).finish()).message,
            "t.gguf: the type of \"k\" at offset 33: 13 is not a type of metadata value");
  EXPECT_THAT(
      refused(GgufWriter().raw("k", 9, little_endian(77u) + little_endian(uint64_t{0})).finish())
          .message,
      HasSubstr("77 is not a type of array element"));
  EXPECT_THAT(refused(GgufWriter().raw("k", 7, "\x02").finish()).message,
              HasSubstr("a truth value must be 0 or 1, not 2"));
  EXPECT_THAT(refused(GgufWriter()
                          .raw("k", 9, little_endian(7u) + little_endian(uint64_t{2}) + "\x01\x05")
                          .finish())
                  .message,
              HasSubstr("element 1: a truth value must be 0 or 1"));
  const Error nested =
      refused(GgufWriter().raw("k", 9, little_endian(9u) + little_endian(uint64_t{0})).finish());
  EXPECT_EQ(nested.code, ErrorCode::kUnsupported);
  EXPECT_THAT(nested.message, HasSubstr("arrays of arrays are not supported"));
}

TEST(GgufRefusing, NamesThatAreEmptyOrOccurTwice) {
  EXPECT_THAT(refused(GgufWriter().add("", 1.0f).finish()).message, HasSubstr("the key is empty"));
  EXPECT_EQ(refused(GgufWriter().add("b", true).add("a", true).add("b", 1.0f).finish()).message,
            "t.gguf: the metadata at offset 52: the key \"b\" occurs twice");
  const std::vector<float> one = {1};
  EXPECT_THAT(
      refused(
          GgufWriter().tensor("b", {1}, one).tensor("a", {1}, one).tensor("b", {1}, one).finish())
          .message,
      HasSubstr("the name \"b\" occurs twice"));
  EXPECT_THAT(refused(GgufWriter().tensor("", {1}, one).finish()).message,
              HasSubstr("a name of 0 bytes"));
}

TEST(GgufRefusing, AlignmentsThatAreNoPowersOfTwo) {
  for (const uint32_t alignment : {0u, 3u, 33u, UINT32_MAX}) {
    EXPECT_THAT(refused(small().add("general.alignment", alignment).finish()).message,
                HasSubstr("is not a power of two"));
  }
  EXPECT_THAT(refused(small().add("general.alignment", int32_t{-32}).finish()).message,
              HasSubstr("-32 is not a power of two"));
  EXPECT_THAT(refused(small().add("general.alignment", "32").finish()).message,
              HasSubstr("must be an integer"));
}

TEST(GgufRefusing, ShapesThatCannotBe) {
  const auto with = [](const std::vector<uint64_t>& dimensions, uint32_t type = 0) {
    return refused(
               GgufWriter().describe("w", type, dimensions, 0).data(std::string(64, 'x')).finish())
        .message;
  };
  EXPECT_THAT(
      with({}),
      HasSubstr("the shape of tensor \"w\" at offset 33: 0 dimensions; 1 to 4 are allowed"));
  EXPECT_THAT(with({1, 1, 1, 1, 1}), HasSubstr("5 dimensions"));
  EXPECT_THAT(with({4, 0}), HasSubstr("dimension 1 is zero"));
  EXPECT_THAT(with({uint64_t{1} << 63}), HasSubstr("more elements than can be counted"));
  EXPECT_THAT(with({uint64_t{1} << 32, uint64_t{1} << 31}),
              HasSubstr("more elements than can be counted"));
  EXPECT_THAT(with({uint64_t{1} << 62}), HasSubstr("bigger than the file"));
  EXPECT_THAT(with({1u << 31, 1u << 31}), HasSubstr("bigger than the file"));
  EXPECT_THAT(
      with({33}, 2),
      HasSubstr("its rows of 33 elements are not whole blocks of 32 as the type Q4_0 wants"));
}

TEST(GgufRefusing, DataThatLiesOutsideOrOverAnother) {
  const std::string data(96, 'x');
  EXPECT_THAT(
      refused(GgufWriter().describe("w", 0, {8}, 96).data(data).finish()).message,
      AllOf(HasSubstr("the data of tensor \"w\""), HasSubstr("run past the end of the file")));
  EXPECT_THAT(
      refused(GgufWriter().describe("w", 0, {8}, UINT64_MAX - 31).data(data).finish()).message,
      HasSubstr("run past the end of the file"));
  EXPECT_THAT(refused(GgufWriter().describe("w", 0, {8}, 5).data(data).finish()).message,
              HasSubstr("begins at 5, which is not a multiple of the alignment 32"));
  EXPECT_THAT(
      refused(GgufWriter().describe("v", 0, {9}, 0).describe("w", 0, {8}, 32).data(data).finish())
          .message,
      AllOf(HasSubstr("the data of tensor \"w\""), HasSubstr("overlaps that of \"v\"")));
  EXPECT_THAT(
      refused(GgufWriter().describe("v", 0, {8}, 0).describe("w", 0, {8}, 0).data(data).finish())
          .message,
      HasSubstr("overlaps"));
}

TEST(GgufRefusing, AFileThatGoesOnAfterItsEnd) {
  const std::string whole = small().finish();
  ASSERT_TRUE(File::parse(as_bytes(whole + std::string(-whole.size() % 32, '\0')), "t.gguf"));
  EXPECT_THAT(refused(whole + std::string(33, 'x')).message,
              HasSubstr("the file goes on for 33 bytes that belong to no tensor"));
}

TEST(GgufRefusing, APartOfASplitModelSaysWhich) {
  const Error error = refused(small()
                                  .add("split.no", uint16_t{1})
                                  .add("split.count", uint16_t{4})
                                  .add("split.tensors.count", 9)
                                  .finish());
  EXPECT_EQ(error.code, ErrorCode::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("this is part 2 of 4 of a split model, and only together"));
  const std::string single =
      small().add("split.no", uint16_t{0}).add("split.count", uint16_t{1}).finish();
  EXPECT_TRUE(File::parse(as_bytes(single), "t.gguf"));
}

}  // namespace
}  // namespace shoal::gguf
