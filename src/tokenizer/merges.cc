#include <algorithm>
#include <cmath>
#include <string>

#include "tokenizer/vocabulary.h"

namespace shoal {
namespace {

// Splitting a token everywhere costs the square of its length; no real token comes near this.
constexpr size_t kMaximumTokenBytes = 1024;

bool is_reached_by_merging(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kUndefined;
}

bool begins_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}

uint16_t character_count(std::string_view text) {
  return static_cast<uint16_t>(std::ranges::count_if(text, begins_character));
}

struct Candidate {
  double score;
  uint16_t left_characters, right_characters;
  TokenMerge merge;
};

void add_splits(const Vocabulary& vocabulary, size_t id, double score,
                std::vector<Candidate>& found) {
  const std::string_view text = vocabulary.texts[id];
  for (size_t at = 1; at < text.size(); ++at) {
    if (!begins_character(text[at])) continue;
    const std::string_view left_text = text.substr(0, at), right_text = text.substr(at);
    const auto left = vocabulary.id_of(left_text);
    if (!left) continue;
    const auto right = vocabulary.id_of(right_text);
    if (!right) continue;
    if (!is_reached_by_merging(vocabulary.types[static_cast<size_t>(*left)]) ||
        !is_reached_by_merging(vocabulary.types[static_cast<size_t>(*right)])) {
      continue;
    }
    found.push_back(
        {score,
         character_count(left_text),
         character_count(right_text),
         {static_cast<uint32_t>(*left), static_cast<uint32_t>(*right), static_cast<uint32_t>(id)}});
  }
}

}  // namespace

Result<std::vector<TokenMerge>> read_merges(const gguf::File& file, const Vocabulary& vocabulary) {
  SHOAL_ASSIGN(const auto lines, file.strings("tokenizer.ggml.merges"));
  std::vector<TokenMerge> merges;
  merges.reserve(lines.size());
  std::string joined;
  for (size_t index = 0; index < lines.size(); ++index) {
    const std::string_view line = lines[index];
    const size_t space = line.find(' ', 1);  // the first character may be a space itself
    if (space == std::string_view::npos) {
      return fail(ErrorCode::kCorrupt, "{}: merge {} ('{}') is not two tokens with a space between",
                  file.path(), index, line.substr(0, 64));
    }
    const std::string_view left_text = line.substr(0, space), right_text = line.substr(space + 1);
    const auto left = vocabulary.id_of(left_text), right = vocabulary.id_of(right_text);
    joined.assign(left_text).append(right_text);
    const auto whole = vocabulary.id_of(joined);
    if (!left || !right || !whole) {
      const std::string_view missing = !left    ? left_text
                                       : !right ? right_text
                                                : std::string_view(joined);
      return fail(ErrorCode::kCorrupt, "{}: merge {} names '{}', which is not in the vocabulary",
                  file.path(), index, missing.substr(0, 64));
    }
    merges.push_back({static_cast<uint32_t>(*left), static_cast<uint32_t>(*right),
                      static_cast<uint32_t>(*whole)});
  }
  return merges;
}

// SentencePiece joins the neighbours whose union has the best score. As ranked merges: every way to
// cut a token in two tokens, by falling score of the whole, and for one score in the order that
// Hugging Face's converter gives (longer left side first).
Result<std::vector<TokenMerge>> merges_from_scores(const gguf::File& file,
                                                   const Vocabulary& vocabulary) {
  SHOAL_ASSIGN(const auto scores, file.numbers("tokenizer.ggml.scores"));
  if (scores.size() != vocabulary.texts.size()) {
    return fail(ErrorCode::kCorrupt, "{}: tokenizer.ggml.scores has {} entries for {} tokens",
                file.path(), scores.size(), vocabulary.texts.size());
  }
  std::vector<Candidate> candidates;
  for (size_t id = 0; id < scores.size(); ++id) {
    if (std::isnan(scores[id]))
      return fail(ErrorCode::kCorrupt, "{}: the score of token {} is not a number", file.path(),
                  id);
    if (!is_reached_by_merging(vocabulary.types[id])) continue;
    if (vocabulary.texts[id].size() > kMaximumTokenBytes) {
      return fail(ErrorCode::kUnsupported,
                  "{}: token {} has {} bytes, more than the {} that a token may have", file.path(),
                  id, vocabulary.texts[id].size(), kMaximumTokenBytes);
    }
    add_splits(vocabulary, id, scores[id], candidates);
  }
  std::ranges::stable_sort(candidates, [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    if (a.left_characters != b.left_characters) return a.left_characters > b.left_characters;
    return a.right_characters > b.right_characters;
  });
  std::vector<TokenMerge> merges;
  merges.reserve(candidates.size());
  for (const Candidate& candidate : candidates) merges.push_back(candidate.merge);
  return merges;
}

}  // namespace shoal
