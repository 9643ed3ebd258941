// UTF-8 that may be wrong or not yet whole. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace shoal {

// Moves what is complete from the front of `held` to the result. What no further bytes could make
// valid becomes U+FFFD, one per longest piece that begins a character (Unicode 15, 3.9, as Python's
// errors="replace" does); the beginning of a character that more bytes could complete stays.
std::string take_complete_utf8(std::string& held);

// All of it, an unfinished character at the end as U+FFFD.
std::string replace_invalid_utf8(std::string_view bytes);

bool is_utf8(std::string_view bytes);

}  // namespace shoal
