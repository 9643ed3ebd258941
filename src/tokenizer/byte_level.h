// The alphabet of byte-level vocabularies: every byte is written as one printable character (as in
// GPT-2's encoder). Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace shoal {

// The bytes that a token's text stands for; nullopt when it has a character outside the alphabet.
std::optional<std::string> bytes_of_byte_level(std::string_view text);

}  // namespace shoal
