#include "tokenizer/byte_level.h"

#include <array>
#include <cstdint>

namespace shoal {
namespace {

// Printable bytes of Latin-1 stand for themselves; the other 68, in order, for the characters from
// U+0100 on.
constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

constexpr size_t kAlphabetEnd = 0x100 + 68;

// By character: the byte, or -1.
constexpr std::array<int16_t, kAlphabetEnd> kByteOfCharacter = [] {
  std::array<int16_t, kAlphabetEnd> table{};
  table.fill(-1);
  size_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    table[stands_for_itself(byte) ? static_cast<size_t>(byte) : next++] =
        static_cast<int16_t>(byte);
  }
  return table;
}();

}  // namespace

std::optional<std::string> bytes_of_byte_level(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t at = 0; at < text.size(); ++at) {
    uint32_t character = static_cast<uint8_t>(text[at]);
    if (character >= 0x80) {
      // The whole alphabet lies below U+0800: two bytes.
      if ((character & 0xE0) != 0xC0 || at + 1 == text.size()) return std::nullopt;
      character = (character & 0x1F) << 6 | (static_cast<uint8_t>(text[++at]) & 0x3F);
    }
    if (character >= kAlphabetEnd || kByteOfCharacter[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kByteOfCharacter[character]));
  }
  return bytes;
}

}  // namespace shoal
