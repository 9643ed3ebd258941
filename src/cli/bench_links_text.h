// How tables of `shoal bench links` say sizes and times. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::cli {

std::string link_row(std::string_view frame, std::string_view link, std::string_view p50,
                     std::string_view p99, std::string_view giga_bytes_per_s);
std::string binary_size(uint64_t bytes);  // "64 KiB"
std::string short_time(double seconds);   // with a digit after the point where microseconds count

}  // namespace shoal::cli
