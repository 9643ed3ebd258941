// Token ids equal those of Hugging Face's tokenizers with the pipelines of many families of models,
// over two small vocabularies (tests/golden/tokenizer).
#include <gtest/gtest.h>

#include <fstream>

#include "base/file.h"
#include "base/json.h"
#include "small_vocabulary.h"
#include "tokenizer/pre_tokenizers.h"

namespace shoal {
namespace {

const std::string kFolder = SHOAL_SOURCE_DIR "/tests/golden/tokenizer/";

std::vector<Json> load_lines(const std::string& name) {
  std::vector<Json> lines;
  std::ifstream file(kFolder + name);
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  return lines;
}

// As make_tokenizer_golden.py hashes them.
std::string hash_of(const std::vector<int32_t>& ids) {
  uint32_t hash = 2166136261;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (static_cast<uint32_t>(id) >> shift & 0xFF)) * 16777619;
    }
  }
  return fmt::format("{:06x}", hash & 0xFFFFFF);
}

SmallVocabulary vocabulary_of(const Json& family, const Json& vocabularies,
                              const std::string& name) {
  const bool is_byte_level = family["model"] == "gpt2";
  const Json& base = vocabularies[is_byte_level ? "byte_level" : "sentence_piece"];
  SmallVocabulary vocabulary;
  vocabulary.model = family["model"];
  vocabulary.pre = is_byte_level ? name : "default";
  for (size_t id = 0; id < base["tokens"].size(); ++id) {
    if (is_byte_level) {
      vocabulary.add(base["tokens"][id]);
    } else {
      vocabulary.add(base["tokens"][id], base["kinds"][id], base["scores"][id]);
    }
  }
  for (const Json& text : family["control"]) vocabulary.add(text, kControl);
  // Files of this kind call them ordinary.
  const int32_t user = family["model"] == "gemma4" ? kNormal : kUserDefined;
  for (const Json& text : family["user"]) vocabulary.add(text, user);
  const Json& merges = family.contains("merges") ? family["merges"] : base.value("merges", Json());
  for (const Json& merge : merges) vocabulary.merges.push_back(merge);
  for (const auto& [flag, value] : family["flags"].items())
    vocabulary.flags.emplace_back(flag, value);
  return vocabulary;
}

TEST(Families, IdsAreHuggingFaces) {
  const auto text = read_file(kFolder + "vocabularies.json");
  ASSERT_TRUE(text) << text.error().message;
  const Json vocabularies = Json::parse(*text);
  const std::vector<Json> texts = load_lines("texts.jsonl");
  ASSERT_GT(texts.size(), 6000u);
  int families = 0;
  for (const Json& family : load_lines("families.jsonl")) {
    ++families;
    // The other names mean the same row; that they do is checked on some texts only.
    for (size_t index = 0; index < family["names"].size(); ++index) {
      const std::string name = family["names"][index];
      SCOPED_TRACE(name);
      const auto tokenizer = tokenizer_of(vocabulary_of(family, vocabularies, name).file());
      ASSERT_TRUE(tokenizer) << tokenizer.error().message;
      const auto expected = family["hashes"].get<std::string>();
      ASSERT_EQ(expected.size(), texts.size() * 6);
      int different = 0;
      for (size_t at = 0; at < texts.size(); at += index == 0 ? 1 : 16) {
        const auto ids = tokenizer->encode(texts[at].get<std::string>(), true);
        ASSERT_TRUE(ids) << ids.error().message;
        if (hash_of(*ids) == expected.substr(at * 6, 6)) continue;
        if (++different <= 5) {
          ADD_FAILURE() << texts[at].dump(-1, ' ', true) << " gave " << Json(*ids).dump();
        }
      }
      EXPECT_EQ(different, 0) << "of " << texts.size();
    }
  }
  EXPECT_GE(families, 24);
}

// What was encoded comes back, at once and in a stream, whatever the family.
TEST(Families, DecodingGivesTheTextBack) {
  const Json vocabularies = Json::parse(read_file(kFolder + "vocabularies.json").value());
  const std::vector<Json> texts = load_lines("texts.jsonl");
  for (const Json& family : load_lines("families.jsonl")) {
    const std::string name = family["names"][0];
    SCOPED_TRACE(name);
    const auto tokenizer = tokenizer_of(vocabulary_of(family, vocabularies, name).file());
    ASSERT_TRUE(tokenizer);
    const PreTokenizerRule* rule = pre_tokenizer_rule(name);
    const bool normalizes = rule && !rule->normalizer.empty();
    for (size_t at = 0; at < texts.size(); at += 7) {
      const auto text = texts[at].get<std::string>();
      const std::vector<int32_t> ids = tokenizer->encode(text, true).value();
      Detokenizer stream(*tokenizer, true);
      std::string streamed;
      for (const int32_t id : ids) streamed += stream.add(id);
      streamed += stream.finish();
      EXPECT_EQ(streamed, tokenizer->decode(ids)) << texts[at].dump(-1, ' ', true);
      if (family["model"] != "gpt2" || normalizes || text.find("|>") != text.npos) continue;
      EXPECT_EQ(tokenizer->decode(ids, true), text);
    }
  }
}

TEST(Families, EveryNameIsTested) {
  std::string tested = ",";
  for (const Json& family : load_lines("families.jsonl")) {
    for (const Json& name : family["names"]) tested += fmt::format(" {},", name.get<std::string>());
  }
  std::string known = known_pre_tokenizers() + ",";
  for (size_t at = 0, end; (end = known.find(',', at)) != known.npos; at = end + 2) {
    const std::string name = known.substr(at, end - at);
    EXPECT_NE(tested.find(fmt::format(" {},", name)), tested.npos) << name;
  }
}

// A text longer than the pieces in which it is encoded gives what it gives as a whole: of a
// sentence again and again, ids that repeat without a fault where it was cut.
TEST(Families, LongTextsAreCutWhereNothingIsLost) {
  const Json vocabularies = Json::parse(read_file(kFolder + "vocabularies.json").value());
  const std::string sentence = " The quick brown fox jumps over 13 lazy dogs, said he;";
  for (const Json& family : load_lines("families.jsonl")) {
    const std::string name = family["names"][0];
    SCOPED_TRACE(name);
    const auto tokenizer = tokenizer_of(vocabulary_of(family, vocabularies, name).file());
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    const auto ids_of = [&](size_t count) {
      std::string text = "x";
      for (size_t done = 0; done < count; ++done) text += sentence;
      return tokenizer->encode(text, true).value();
    };
    const std::vector<int32_t> few = ids_of(4), many = ids_of(5000);
    const size_t period = few.size() - ids_of(3).size();
    ASSERT_EQ(many.size(), few.size() + 4996 * period);
    EXPECT_TRUE(std::equal(few.begin(), few.end() - static_cast<ptrdiff_t>(period), many.begin()));
    EXPECT_TRUE(
        std::equal(few.rbegin(), few.rbegin() + static_cast<ptrdiff_t>(period), many.rbegin()));
    for (size_t at = few.size(); at + period < many.size(); ++at) {
      ASSERT_EQ(many[at], many[at - period]) << "id " << at;
    }
  }
}

}  // namespace
}  // namespace shoal
