#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>

namespace shoal {

std::string format_bytes(uint64_t bytes) {
  static constexpr std::array kNames = {"B", "kB", "MB", "GB", "TB", "PB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kNames.size()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format(fmt::runtime(value < 10 ? "{:.2f} {}" : "{:.1f} {}"), value, kNames[unit]);
}

std::string format_duration(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<uint64_t>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

Result<uint64_t> parse_bytes(std::string_view text) {
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  struct Unit {
    std::string_view name;
    double factor;
  };
  static constexpr std::array kUnits = {Unit{"", 1},
                                        Unit{"B", 1},
                                        Unit{"kB", 1e3},
                                        Unit{"KB", 1e3},
                                        Unit{"MB", 1e6},
                                        Unit{"GB", 1e9},
                                        Unit{"TB", 1e12},
                                        Unit{"K", 1e3},
                                        Unit{"M", 1e6},
                                        Unit{"G", 1e9},
                                        Unit{"T", 1e12},
                                        Unit{"KiB", 1024.0},
                                        Unit{"MiB", 1048576.0},
                                        Unit{"GiB", 1073741824.0},
                                        Unit{"TiB", 1099511627776.0}};
  if (error == std::errc() && std::isfinite(value) && value >= 0) {
    for (const Unit& known : kUnits) {
      if (known.name == unit && value * known.factor < 9e18) {
        return static_cast<uint64_t>(value * known.factor);
      }
    }
  }
  return fail(ErrorCode::kInvalidArgument,
              "'{}' is not an amount of memory; write one like 1.8GB or 512MiB", text);
}

}  // namespace shoal
