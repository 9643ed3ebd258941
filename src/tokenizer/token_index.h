// From a token's text to its id. Open addressing over slots of eight bytes, a part of the hash
// beside the id, so that a text which is no token costs one look at memory: rebuilding
// SentencePiece's merges asks for millions of those. Immutable once filled; then any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

class TokenIndex {
 public:
  TokenIndex() = default;
  // For at most `count` texts.
  explicit TokenIndex(size_t count);

  // Adds `texts[id]`, unless an equal text is there already: then that one's id comes back.
  std::optional<int32_t> add(int32_t id, std::span<const std::string> texts);
  // `texts`: those that were added from.
  std::optional<int32_t> find(std::string_view text, std::span<const std::string> texts) const;

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;  // nobody's
  };
  // Where the text is, or would be.
  size_t place_of(std::string_view text, uint64_t hash, std::span<const std::string> texts) const;

  std::vector<Slot> slots_ = std::vector<Slot>(1);  // a power of two, never full
};

}  // namespace shoal
