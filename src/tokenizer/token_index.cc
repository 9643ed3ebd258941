#include "tokenizer/token_index.h"

#include <bit>
#include <functional>

namespace shoal {
namespace {

// Places come from the low bits, so what tells two texts of one place apart are the high ones.
uint32_t kept(uint64_t hash) {
  return static_cast<uint32_t>(hash >> 32);
}

}  // namespace

TokenIndex::TokenIndex(size_t count) : slots_(std::bit_ceil(count + count / 3 + 1)) {}

size_t TokenIndex::place_of(std::string_view text, uint64_t hash,
                            std::span<const std::string> texts) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.id < 0) return at;
    if (slot.hash == kept(hash) && texts[static_cast<size_t>(slot.id)] == text) return at;
  }
}

std::optional<int32_t> TokenIndex::add(int32_t id, std::span<const std::string> texts) {
  const std::string& text = texts[static_cast<size_t>(id)];
  const uint64_t hash = std::hash<std::string_view>()(text);
  Slot& slot = slots_[place_of(text, hash, texts)];
  if (slot.id >= 0) return slot.id;
  slot = {kept(hash), id};
  return std::nullopt;
}

std::optional<int32_t> TokenIndex::find(std::string_view text,
                                        std::span<const std::string> texts) const {
  const uint64_t hash = std::hash<std::string_view>()(text);
  const Slot& slot = slots_[place_of(text, hash, texts)];
  if (slot.id < 0) return std::nullopt;
  return slot.id;
}

}  // namespace shoal
