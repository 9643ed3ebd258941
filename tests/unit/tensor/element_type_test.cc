#include "tensor/element_type.h"

#include <gtest/gtest.h>

#include "tensor/backend.h"

namespace shoal {
namespace {

TEST(ElementType, SupportedTypesAreThoseThatHaveKernels) {
  EXPECT_EQ(supported_element_types(),
            "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, "
            "BF16, MXFP4");
}

TEST(ElementType, EveryEnumeratorHasItsOwnNumberAndName) {
  const std::pair<ElementType, const char*> expected[] = {
      {ElementType::kF32, "F32"},       {ElementType::kF16, "F16"},
      {ElementType::kQ4_0, "Q4_0"},     {ElementType::kQ4_1, "Q4_1"},
      {ElementType::kQ5_0, "Q5_0"},     {ElementType::kQ5_1, "Q5_1"},
      {ElementType::kQ8_0, "Q8_0"},     {ElementType::kQ2_K, "Q2_K"},
      {ElementType::kQ3_K, "Q3_K"},     {ElementType::kQ4_K, "Q4_K"},
      {ElementType::kQ5_K, "Q5_K"},     {ElementType::kQ6_K, "Q6_K"},
      {ElementType::kIQ4_NL, "IQ4_NL"}, {ElementType::kIQ4_XS, "IQ4_XS"},
      {ElementType::kBF16, "BF16"},     {ElementType::kMXFP4, "MXFP4"}};
  for (const auto& [type, name] : expected) {
    EXPECT_EQ(element_traits(type).name, name);
    EXPECT_EQ(element_traits(type).id, static_cast<uint32_t>(type));
    EXPECT_TRUE(element_traits(type).supported);
  }
}

TEST(ElementType, TypesWithoutKernelsAreKnownByNameAndSize) {
  const ElementTraits* type = element_traits(17u);
  ASSERT_NE(type, nullptr);
  EXPECT_EQ(type->name, "IQ2_XS");
  EXPECT_EQ(type->block_elements, 256u);
  EXPECT_EQ(type->block_bytes, 74u);
  EXPECT_FALSE(type->supported);
}

TEST(ElementType, TypesWithoutKernelsAreRefusedWithTheFileToTakeInstead) {
  const std::pair<uint32_t, const char*> expected[] = {
      {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"},
      {29, "IQ1_M"},   {34, "TQ1_0"},  {35, "TQ2_0"},   {40, "NVFP4"}, {41, "Q1_0"},  {42, "Q2_0"}};
  for (const auto& [id, name] : expected) {
    const std::string sentence = unsupported_element_type(id);
    EXPECT_TRUE(sentence.starts_with(std::string("has the type ") + name + ",")) << sentence;
    EXPECT_NE(sentence.find("; take the model's "), std::string::npos) << sentence;
  }
  EXPECT_EQ(unsupported_element_type(17),
            "has the type IQ2_XS, which is not supported; take the model's Q2_K file instead");
  EXPECT_EQ(unsupported_element_type(21),
            "has the type IQ3_S, which is not supported; take the model's Q3_K_M or IQ4_XS file "
            "instead");
  // Not types of weights, and none at all.
  EXPECT_EQ(unsupported_element_type(24),
            "has the type I8, which is not supported; supported are " + supported_element_types());
  EXPECT_EQ(unsupported_element_type(1000),
            "has the type number 1000, which this version does not know; supported are " +
                supported_element_types());
}

TEST(ElementType, WithdrawnAndFutureNumbersAreUnknown) {
  for (const uint32_t id : {4u, 5u, 31u, 36u, 1000u, 0xffffffffu})
    EXPECT_EQ(element_traits(id), nullptr) << id;
}

TEST(ElementType, RowBytesCountWholeBlocks) {
  EXPECT_EQ(row_bytes(ElementType::kF32, 3), 12u);
  EXPECT_EQ(row_bytes(ElementType::kBF16, 3), 6u);
  EXPECT_EQ(row_bytes(ElementType::kQ4_1, 576), 576u / 32 * 20);
  EXPECT_EQ(row_bytes(ElementType::kQ6_K, 2048), 8u * 210);
  EXPECT_EQ(row_bytes(ElementType::kQ8_0, 0), 0u);
}

TEST(KvType, NamesGoThereAndBack) {
  for (const KvType type : kKvTypes) {
    const auto back = kv_type_named(kv_type_name(type));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, type);
  }
}

TEST(KvType, BytesOfAHeadCountTheScales) {
  EXPECT_EQ(kv_head_bytes(KvType::kF32, 128), 512u);
  EXPECT_EQ(kv_head_bytes(KvType::kF16, 128), 256u);
  EXPECT_EQ(kv_head_bytes(KvType::kQ8_0, 128), 136u);
  EXPECT_EQ(kv_head_bytes(KvType::kQ8_0, 80), 86u);  // the last block of 32 is half a block
  EXPECT_EQ(kv_head_bytes(KvType::kQ8_0, 1), 3u);
}

TEST(KvType, AnUnknownNameIsRefusedWithTheKnownOnes) {
  const auto refused = kv_type_named("q4_0");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message, "'q4_0' is not a type of KV cache; write f16, q8_0 or f32");
}

}  // namespace
}  // namespace shoal
