#include "transport/link_model.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <vector>

#include "base/random.h"

namespace shoal {
namespace {

constexpr double kSlowest_gbps = 1e-6;
constexpr double kFastest_gbps = 1e5;
constexpr double kLongest_us = 60e6;

constexpr double bytes_per_s(double gbps) {
  return gbps * 1e9 / 8;
}

// One-way times of small messages and bandwidths as such links are known to give to programs. The
// wired ones have no jitter here, because no measured spread of an idle cable is worth the name;
// Wi-Fi's 2 to 10 ms are its latency and an exponential tail. Its rare half seconds are left out.
const std::array<LinkModel, 7>& table() {
  static const std::array<LinkModel, 7> models = {{
      {"wifi6", 2000e-6, bytes_per_s(0.3), 1000e-6},
      {"1gbe", 70e-6, bytes_per_s(0.94), 0},
      {"2.5gbe", 45e-6, bytes_per_s(2.35), 0},
      {"10gbe", 25e-6, bytes_per_s(9.4), 0},
      {"tb4-ip", 65e-6, bytes_per_s(15.5), 0},
      {"tb5-rdma", 6e-6, bytes_per_s(34), 0},
      {"roce100", 3e-6, bytes_per_s(95), 0},
  }};
  return models;
}

std::unexpected<Error> unknown(std::string_view text) {
  std::vector<std::string_view> names;
  for (const LinkModel& model : table()) names.push_back(model.name);
  return fail(ErrorCode::kInvalidArgument,
              "'{}' is not a link that can be emulated; use {}, or ALPHA_US,GBPS[,JITTER_US] such "
              "as 70,0.94",
              text, fmt::join(names, ", "));
}

Result<double> number(std::string_view whole, std::string_view text, std::string_view what,
                      double lowest, double highest) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool read = error == std::errc() && end == text.data() + text.size() && !text.empty();
  // Written so that "nan" is refused too.
  if (!read || !(value >= lowest && value <= highest)) {
    return fail(ErrorCode::kInvalidArgument,
                "the {} '{}' of the emulated link '{}' must be a number from {} to {}", what, text,
                whole, lowest, highest);
  }
  return value;
}

Clock::duration duration_of(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

std::span<const LinkModel> link_models() {
  return table();
}

Result<LinkModel> parse_link_model(std::string_view text) {
  for (const LinkModel& model : table()) {
    if (model.name == text) return model;
  }
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t comma = text.find(',', begin);
    parts.push_back(text.substr(begin, comma - begin));
    if (comma == std::string_view::npos) break;
    begin = comma + 1;
  }
  if (parts.size() < 2 || parts.size() > 3) return unknown(text);
  SHOAL_ASSIGN(const double latency_us, number(text, parts[0], "latency in us", 0, kLongest_us));
  SHOAL_ASSIGN(const double gbps,
               number(text, parts[1], "bandwidth in Gb/s", kSlowest_gbps, kFastest_gbps));
  LinkModel model{std::string(text), latency_us * 1e-6, bytes_per_s(gbps), 0};
  if (parts.size() == 3) {
    SHOAL_ASSIGN(const double jitter_us, number(text, parts[2], "jitter in us", 0, kLongest_us));
    model.jitter_s = jitter_us * 1e-6;
  }
  return model;
}

Clock::time_point LinkSchedule::arrival(Clock::time_point sent, uint64_t bytes) {
  free_at_ =
      std::max(sent, free_at_) + duration_of(static_cast<double>(bytes) / model_.bytes_per_s);
  const double jitter_s = -std::log1p(-uniform(seed_, frames_++)) * model_.jitter_s;
  last_ = std::max(last_, free_at_ + duration_of(model_.latency_s + jitter_s));
  return last_;
}

}  // namespace shoal
