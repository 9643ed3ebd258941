#include "tensor/element_type.h"

#include <gtest/gtest.h>

#include "tensor/backend.h"

namespace shoal {
namespace {

TEST(ElementType, SupportedTypesAreTheEightThatHaveKernels) {
  EXPECT_EQ(supported_element_types(), "F32, F16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K, BF16");
}

TEST(ElementType, EveryEnumeratorHasItsOwnNumberAndName) {
  const std::pair<ElementType, const char*> expected[] = {
      {ElementType::kF32, "F32"},   {ElementType::kF16, "F16"},   {ElementType::kQ4_0, "Q4_0"},
      {ElementType::kQ4_1, "Q4_1"}, {ElementType::kQ8_0, "Q8_0"}, {ElementType::kQ4_K, "Q4_K"},
      {ElementType::kQ6_K, "Q6_K"}, {ElementType::kBF16, "BF16"}};
  for (const auto& [type, name] : expected) {
    EXPECT_EQ(element_traits(type).name, name);
    EXPECT_EQ(element_traits(type).id, static_cast<uint32_t>(type));
    EXPECT_TRUE(element_traits(type).supported);
  }
}

TEST(ElementType, TypesWithoutKernelsAreKnownByNameAndSize) {
  const ElementTraits* q5 = element_traits(13u);
  ASSERT_NE(q5, nullptr);
  EXPECT_EQ(q5->name, "Q5_K");
  EXPECT_EQ(q5->block_elements, 256u);
  EXPECT_EQ(q5->block_bytes, 176u);
  EXPECT_FALSE(q5->supported);
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
  for (const KvType type : {KvType::kF32, KvType::kF16}) {
    const auto back = kv_type_named(kv_type_name(type));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, type);
  }
  EXPECT_EQ(kv_element_bytes(KvType::kF32), 4u);
  EXPECT_EQ(kv_element_bytes(KvType::kF16), 2u);
}

TEST(KvType, AnUnknownNameIsRefusedWithTheKnownOnes) {
  const auto refused = kv_type_named("q8_0");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message, "'q8_0' is not a type of KV cache; write f16 or f32");
}

}  // namespace
}  // namespace shoal
