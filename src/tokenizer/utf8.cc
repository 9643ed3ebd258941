#include "tokenizer/utf8.h"

#include <cstdint>

namespace shoal {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Piece {
  size_t size;    // bytes looked at, at least one
  bool valid;     // a whole character
  bool may_grow;  // the bytes end inside what is so far a valid character
};

// The bytes that may follow a first byte: how many, and the range of the first of them (Unicode 15,
// table 3-7).
struct Follow {
  int count;
  uint8_t low, high;
};

Follow follow_of(uint8_t first) {
  if (first < 0x80) return {0, 0, 0};
  if (first >= 0xC2 && first <= 0xDF) return {1, 0x80, 0xBF};
  if (first == 0xE0) return {2, 0xA0, 0xBF};
  if (first == 0xED) return {2, 0x80, 0x9F};
  if (first >= 0xE1 && first <= 0xEF) return {2, 0x80, 0xBF};
  if (first == 0xF0) return {3, 0x90, 0xBF};
  if (first >= 0xF1 && first <= 0xF3) return {3, 0x80, 0xBF};
  if (first == 0xF4) return {3, 0x80, 0x8F};
  return {-1, 0, 0};
}

Piece next_piece(std::string_view bytes) {
  const Follow follow = follow_of(static_cast<uint8_t>(bytes[0]));
  if (follow.count < 0) return {1, false, false};
  for (int index = 1; index <= follow.count; ++index) {
    const auto at = static_cast<size_t>(index);
    if (at == bytes.size()) return {at, false, true};
    const auto byte = static_cast<uint8_t>(bytes[at]);
    const uint8_t low = index == 1 ? follow.low : 0x80;
    const uint8_t high = index == 1 ? follow.high : 0xBF;
    if (byte < low || byte > high) return {at, false, false};
  }
  return {static_cast<size_t>(follow.count) + 1, true, false};
}

}  // namespace

std::string take_complete_utf8(std::string& held) {
  std::string taken;
  size_t at = 0;
  while (at < held.size()) {
    const std::string_view rest = std::string_view(held).substr(at);
    const Piece piece = next_piece(rest);
    if (piece.may_grow) break;
    taken += piece.valid ? rest.substr(0, piece.size) : kReplacement;
    at += piece.size;
  }
  held.erase(0, at);
  return taken;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string held(bytes);
  std::string text = take_complete_utf8(held);
  if (!held.empty()) text += kReplacement;
  return text;
}

bool is_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const Piece piece = next_piece(bytes);
    if (!piece.valid) return false;
    bytes.remove_prefix(piece.size);
  }
  return true;
}

}  // namespace shoal
