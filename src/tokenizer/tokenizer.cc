#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "shoal_bridge.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary.h"

namespace shoal {
namespace {

constexpr std::string_view kVisibleSpace = "\u2581";  // SentencePiece writes a space so

struct BridgeDeleter {
  void operator()(ShoalTokenizer* tokenizer) const { shoal_tokenizer_free(tokenizer); }
};
using BridgeTokenizer = std::unique_ptr<ShoalTokenizer, BridgeDeleter>;

ShoalSlice slice_of(std::string_view text) {
  return {text.data(), text.size()};
}

std::string taken(ShoalText text) {
  std::string copy(text.data, text.size);
  shoal_text_free(text);
  return copy;
}

uint8_t bridge_kind(TokenType type) {
  switch (type) {
    case TokenType::kControl:
    case TokenType::kUnknown:
      return SHOAL_TOKEN_SPECIAL;
    case TokenType::kUserDefined:
      return SHOAL_TOKEN_ADDED;
    default:
      return SHOAL_TOKEN_ORDINARY;
  }
}

uint8_t bridge_spaces(SpacePrefix prefix) {
  switch (prefix) {
    case SpacePrefix::kEach:
      return SHOAL_SPACES_ONE_BEFORE_EACH;
    case SpacePrefix::kFirst:
      return SHOAL_SPACES_ONE_BEFORE_FIRST;
    default:
      return SHOAL_SPACES_VISIBLE;
  }
}

Result<BridgeTokenizer> make_bridge(const Vocabulary& vocabulary, const std::string& path) {
  std::vector<ShoalSlice> tokens;
  std::vector<uint8_t> kinds;
  std::vector<ShoalMerge> merges;
  for (const std::string& text : vocabulary.texts) tokens.push_back(slice_of(text));
  for (const TokenType type : vocabulary.types) kinds.push_back(bridge_kind(type));
  for (const TokenMerge& merge : vocabulary.merges) merges.push_back({merge.left, merge.right});

  ShoalTokenizerSpec spec = {};
  spec.tokens = tokens.data();
  spec.kinds = kinds.data();
  spec.strips = vocabulary.strips.data();
  spec.token_count = tokens.size();
  spec.merges = merges.data();
  spec.merge_count = merges.size();
  spec.unknown = -1;
  if (vocabulary.kind == Vocabulary::Kind::kByteLevel) {
    spec.normalizer = slice_of(vocabulary.rule->normalizer);
    spec.pre_tokenizer = slice_of(vocabulary.rule->pre_tokenizer);
    spec.ignore_merges = vocabulary.rule->ignore_merges;
  } else {
    spec.spaces = bridge_spaces(vocabulary.space_prefix);
    spec.byte_fallback = true;
    if (vocabulary.unknown) spec.unknown = *vocabulary.unknown;
  }

  ShoalTokenizer* made = nullptr;
  ShoalText error = {};
  if (shoal_tokenizer_new(&spec, &made, &error) != SHOAL_OK) {
    return fail(ErrorCode::kCorrupt, "{}: the vocabulary cannot be used: {}", path, taken(error));
  }
  return BridgeTokenizer(made);
}

std::string with_plain_spaces(std::string_view text) {
  std::string plain;
  while (true) {
    const size_t at = text.find(kVisibleSpace);
    plain += text.substr(0, at);
    if (at == std::string_view::npos) return plain;
    plain += ' ';
    text.remove_prefix(at + kVisibleSpace.size());
  }
}

}  // namespace

struct Tokenizer::State {
  Vocabulary vocabulary;
  BridgeTokenizer bridge;
  int64_t longest_token_bytes = 1;
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::from_gguf(const gguf::File& file) {
  auto state = std::make_unique<State>();
  SHOAL_ASSIGN(state->vocabulary, read_vocabulary(file));
  SHOAL_ASSIGN(state->bridge, make_bridge(state->vocabulary, file.path()));
  // A token's text has at least as many bytes as it stands for.
  for (const std::string& text : state->vocabulary.texts) {
    state->longest_token_bytes =
        std::max(state->longest_token_bytes, static_cast<int64_t>(text.size()));
  }
  // Only the bridge merges.
  state->vocabulary.merges = {};
  return Tokenizer(std::move(state));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, bool parse_special) const {
  uint32_t* ids = nullptr;
  size_t count = 0;
  ShoalText error = {};
  const ShoalStatus status = shoal_tokenizer_encode(state_->bridge.get(), slice_of(text),
                                                    parse_special, &ids, &count, &error);
  if (status == SHOAL_INVALID) return fail(ErrorCode::kInvalidArgument, "{}", taken(error));
  if (status != SHOAL_OK)
    return fail(ErrorCode::kInternal, "the text could not be tokenized: {}", taken(error));
  std::vector<int32_t> tokens(ids, ids + count);
  shoal_ids_free(ids, count);
  return tokens;
}

std::string Tokenizer::token_bytes(int32_t token, bool show_special) const {
  const Vocabulary& vocabulary = state_->vocabulary;
  if (token < 0 || token >= vocabulary_size()) return {};
  const std::string& text = vocabulary.texts[static_cast<size_t>(token)];
  const TokenType type = vocabulary.types[static_cast<size_t>(token)];
  if (vocabulary.is_special(token)) return show_special ? text : std::string();
  if (type == TokenType::kUserDefined) return text;
  if (vocabulary.kind == Vocabulary::Kind::kByteLevel)
    return bytes_of_byte_level(text).value_or(text);
  if (type == TokenType::kByte) {
    if (const auto byte = byte_of_token(text)) return std::string(1, *byte);
  }
  return with_plain_spaces(text);
}

std::string Tokenizer::decode(std::span<const int32_t> tokens, bool show_special) const {
  std::string bytes;
  for (const int32_t token : tokens) bytes += token_bytes(token, show_special);
  // The space that encoding put before the text.
  if (adds_space() && bytes.starts_with(' ')) bytes.erase(0, 1);
  return replace_invalid_utf8(bytes);
}

bool Tokenizer::adds_space() const {
  return state_->vocabulary.space_prefix != SpacePrefix::kNone;
}
int64_t Tokenizer::vocabulary_size() const {
  return static_cast<int64_t>(state_->vocabulary.texts.size());
}
int64_t Tokenizer::longest_token_bytes() const {
  return state_->longest_token_bytes;
}
std::optional<int32_t> Tokenizer::bos() const {
  return state_->vocabulary.bos;
}
std::optional<int32_t> Tokenizer::eos() const {
  return state_->vocabulary.eos;
}
bool Tokenizer::adds_bos() const {
  return state_->vocabulary.adds_bos;
}
const std::vector<int32_t>& Tokenizer::end_tokens() const {
  return state_->vocabulary.end_tokens;
}
std::optional<int32_t> Tokenizer::token_named(std::string_view text) const {
  return state_->vocabulary.id_of(text);
}

std::string Detokenizer::add(int32_t token) {
  std::string bytes = tokenizer_->token_bytes(token);
  if (!bytes.empty()) {
    if (begins_ && tokenizer_->adds_space() && bytes.front() == ' ') bytes.erase(0, 1);
    begins_ = false;
  }
  held_ += bytes;
  return take_complete_utf8(held_);
}

std::string Detokenizer::finish() {
  std::string rest = replace_invalid_utf8(held_);
  held_.clear();
  return rest;
}

}  // namespace shoal
