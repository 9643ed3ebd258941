#include "base/cpu.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

namespace shoal {
namespace {

TEST(ChooseIsa, EmptyMeansTheBestThereIs) {
  const auto isa = choose_isa("");
  ASSERT_TRUE(isa);
  EXPECT_TRUE(machine_has(*isa));
  for (const Isa better : {Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
    EXPECT_TRUE(!machine_has(better) || *isa >= better) << isa_name(better);
  }
}

TEST(ChooseIsa, TheReferenceIsAlwaysThere) {
  const auto isa = choose_isa("reference");
  ASSERT_TRUE(isa);
  EXPECT_EQ(*isa, Isa::kReference);
}

TEST(ChooseIsa, AnUnknownNameListsTheKnownOnes) {
  for (const char* name : {"sse9", "AVX2", " avx2", "avx"}) {
    const auto isa = choose_isa(name);
    ASSERT_FALSE(isa) << name;
    EXPECT_EQ(isa.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(isa.error().message.find("reference, avx2, avx512, amx or neon"), std::string::npos);
    EXPECT_NE(isa.error().message.find(name), std::string::npos);
  }
}

TEST(ChooseIsa, SaysWhetherTheMachineOrTheKernelsAreMissing) {
  for (const Isa set : {Isa::kAvx2, Isa::kAvx512, Isa::kAmx, Isa::kNeon}) {
    const auto isa = choose_isa(isa_name(set));
    if (isa) {
      EXPECT_TRUE(*isa == set && machine_has(set));
      continue;
    }
    EXPECT_EQ(isa.error().code, ErrorCode::kUnsupported);
    const char* expected = machine_has(set) ? "no kernels for" : "this machine lacks";
    EXPECT_NE(isa.error().message.find(expected), std::string::npos) << isa.error().message;
  }
}

TEST(MachineHas, EachSetIncludesThoseBeforeIt) {
  EXPECT_TRUE(machine_has(Isa::kReference));
  EXPECT_TRUE(!machine_has(Isa::kAmx) || machine_has(Isa::kAvx512));
  EXPECT_TRUE(!machine_has(Isa::kAvx512) || machine_has(Isa::kAvx2));
  EXPECT_TRUE(!machine_has_dot_products() || machine_has(Isa::kNeon));
  EXPECT_TRUE(!machine_has_matrix_products() || machine_has_dot_products());
}

TEST(MachineHas, SetsOfOneArchitecture) {
  EXPECT_FALSE(machine_has(Isa::kNeon) && machine_has(Isa::kAvx2));
}

// The kernel's list, an independent reading of the same facts.
TEST(MachineHas, AgreesWithTheKernel) {
  std::ifstream file("/proc/cpuinfo");
  std::stringstream text;
  text << file.rdbuf();
  // Under an emulator the list is that of the machine below.
  const char* title = machine_has(Isa::kNeon) ? "Features\t" : "flags\t";
  const size_t line = text.str().find(title);
  if (line == std::string::npos) GTEST_SKIP() << "this kernel lists no processor flags";
  std::istringstream list(text.str().substr(line, text.str().find('\n', line) - line));
  std::set<std::string> words;
  for (std::string word; list >> word;) words.insert(word);
  const auto has = [&](const char* word) { return words.count(word) > 0; };
  EXPECT_EQ(machine_has(Isa::kAvx2), has("avx2") && has("fma") && has("f16c"));
  EXPECT_EQ(machine_has(Isa::kAvx512), has("avx512_vnni"));
  EXPECT_TRUE(!machine_has(Isa::kAmx) || has("amx_int8"));  // which the kernel may still refuse
  EXPECT_EQ(machine_has(Isa::kNeon), has("asimd"));
  EXPECT_EQ(machine_has_dot_products(), has("asimddp"));
  EXPECT_EQ(machine_has_matrix_products(), has("i8mm"));
}

TEST(Cores, AreThoseOfTheAffinityMask) {
  EXPECT_GE(usable_core_count(), 1);
  EXPECT_EQ(static_cast<size_t>(usable_core_count()), usable_cores().size());
  EXPECT_FALSE(pin_this_thread(-1));
  const auto absent = pin_this_thread(1023);
  if (usable_cores().back() < 1000) {
    ASSERT_FALSE(absent);
    EXPECT_NE(absent.error().message.find("1023"), std::string::npos);
  }
}

TEST(Memory, AvailableIsWithinTotal) {
  EXPECT_GT(memory_total_bytes(), 1u << 20);
  EXPECT_GT(memory_available_bytes(), 0u);
  EXPECT_LE(memory_available_bytes(), memory_total_bytes());
}

TEST(Processor, HasAName) {
  EXPECT_FALSE(processor_name().empty());
}

}  // namespace
}  // namespace shoal
