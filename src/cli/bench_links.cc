#include "cli/bench_links.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <thread>

#include "base/cpu.h"
#include "base/units.h"
#include "transport/emulated.h"
#include "transport/shm.h"

namespace shoal::cli {
namespace {

constexpr std::string_view kEmulatedPrefix = "emulated:";
constexpr std::chrono::seconds kOneWait{60};
constexpr uint64_t kLargestBytes = 256 << 20;
constexpr int kWarmUps = 3;
constexpr uint64_t kLeastRounds = 5;
constexpr uint64_t kMostRounds = 5000;

Deadline soon() {
  return Clock::now() + kOneWait;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t comma = text.find(',', begin);
    parts.push_back(text.substr(begin, comma - begin));
    if (comma == std::string_view::npos) return parts;
    begin = comma + 1;
  }
}

bool starts_like_a_number(std::string_view text) {
  return !text.empty() && (text[0] == '.' || text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
}

// --- two ranks ---

struct Ends {
  std::unique_ptr<Link> first;
  std::unique_ptr<Link> second;
};

Result<Ends> tcp_ends(LinkMode mode) {
  SHOAL_ASSIGN(auto sockets, connected_tcp_pair());
  const Bytes key = random_bytes(32);
  Result<std::unique_ptr<Link>> first = nullptr;
  std::thread dialler(
      [&] { first = make_tcp_link(std::move(sockets.first), mode, true, key, "rank 1", soon()); });
  auto second = make_tcp_link(std::move(sockets.second), mode, false, key, "rank 0", soon());
  dialler.join();
  if (!first) return std::unexpected(first.error());
  if (!second) return std::unexpected(second.error());
  return Ends{std::move(*first), std::move(*second)};
}

Result<Ends> ends_of(const BenchLink& link) {
  using enum BenchLink::Kind;
  if (link.kind == kTls || link.kind == kPlain) {
    return tcp_ends(link.kind == kTls ? LinkMode::kTls : LinkMode::kPlain);
  }
  SHOAL_ASSIGN(auto shm, connected_shm_pair("rank 1", "rank 0"));
  if (link.kind == kShm) return Ends{std::move(shm.first), std::move(shm.second)};
  return Ends{make_emulated_link(std::move(shm.first), link.model),
              make_emulated_link(std::move(shm.second), link.model)};
}

Result<double> one_exchange(Link& link, const Bytes& out, Bytes& in) {
  const auto start = Clock::now();
  SHOAL_TRY(link.exchange(out, in, start + kOneWait));
  return seconds_since(start);
}

void run_second_rank(Link& link, uint64_t bytes) {
  Bytes order;
  const Bytes out(bytes, std::byte{1});
  Bytes in(bytes);
  for (int phase = 0; phase < 2; ++phase) {
    if (!link.receive(order, soon())) return;
    uint64_t rounds = 0;
    std::from_chars(as_text(order).data(), as_text(order).data() + order.size(), rounds);
    for (uint64_t i = 0; i < rounds; ++i) {
      if (!one_exchange(link, out, in)) return;
    }
  }
}

Result<std::vector<double>> run_first_rank(Link& link, uint64_t bytes, double seconds) {
  const Bytes out(bytes, std::byte{2});
  Bytes in(bytes);
  std::vector<double> times_s;
  const auto run = [&](uint64_t rounds) -> Status {
    SHOAL_TRY(link.send(as_bytes(std::to_string(rounds)), soon()));
    times_s.clear();
    for (uint64_t i = 0; i < rounds; ++i) {
      SHOAL_ASSIGN(const double time_s, one_exchange(link, out, in));
      times_s.push_back(time_s);
    }
    return {};
  };
  SHOAL_TRY(run(kWarmUps));
  const double fastest_s = std::max(1e-7, std::ranges::min(times_s));
  const auto fitting = static_cast<uint64_t>(std::min(1e9, seconds / fastest_s));
  SHOAL_TRY(run(std::clamp(fitting, kLeastRounds, kMostRounds)));
  return times_s;
}

Result<LinkBenchResult> measure(const BenchLink& kind, uint64_t bytes, double seconds) {
  SHOAL_ASSIGN(Ends ends, ends_of(kind));
  const std::vector<int> cores = usable_cores();
  const auto pin = [&](size_t rank) {
    // Where it cannot be pinned it runs all the same.
    if (cores.size() >= 2) (void)pin_this_thread(cores[rank]);
  };
  Result<std::vector<double>> times_s = std::vector<double>();
  std::thread first([&] {
    pin(0);
    times_s = run_first_rank(*ends.first, bytes, seconds);
    if (!times_s) ends.first->abandon(times_s.error());
  });
  std::thread second([&] {
    pin(1);
    run_second_rank(*ends.second, bytes);
  });
  first.join();
  second.join();
  if (!times_s) return std::unexpected(times_s.error());
  double total_s = 0;
  for (const double time_s : *times_s) total_s += time_s;
  std::ranges::sort(*times_s);
  const size_t rounds = times_s->size();
  return LinkBenchResult{.link = kind.name(),
                         .mode = std::string(kind.mode()),
                         .bytes = bytes,
                         .exchange_p50_s = (*times_s)[rounds / 2],
                         .exchange_p99_s = (*times_s)[rounds * 99 / 100],
                         .bytes_per_s = static_cast<double>(bytes * rounds) / total_s};
}

std::string binary_size(uint64_t bytes) {
  if (bytes >= 1 << 20 && bytes % (1 << 20) == 0) return fmt::format("{} MiB", bytes >> 20);
  if (bytes >= 1 << 10 && bytes % (1 << 10) == 0) return fmt::format("{} KiB", bytes >> 10);
  return fmt::format("{} B", bytes);
}

// With a digit after the point where microseconds count.
std::string short_time(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.1f} us", seconds * 1e6) : format_duration(seconds);
}

std::string label(const LinkBenchResult& result) {
  return result.link == "tcp" ? fmt::format("tcp, {}", result.mode) : result.link;
}

}  // namespace

std::string BenchLink::name() const {
  if (kind == Kind::kShm) return "shm";
  return kind == Kind::kEmulated ? fmt::format("{}{}", kEmulatedPrefix, model.name) : "tcp";
}

std::string_view BenchLink::mode() const {
  return link_mode_name(kind == Kind::kTls ? LinkMode::kTls : LinkMode::kPlain);
}

Result<std::vector<BenchLink>> parse_bench_links(std::string_view text) {
  using enum BenchLink::Kind;
  std::vector<BenchLink> links;
  const std::vector<std::string_view> parts = split(text);
  for (size_t i = 0; i < parts.size(); ++i) {
    std::string word(parts[i]);
    if (word.starts_with(kEmulatedPrefix)) {
      // The numbers of an emulated link have commas of their own; no link's name begins with one.
      while (i + 1 < parts.size() && starts_like_a_number(parts[i + 1])) {
        word += fmt::format(",{}", parts[++i]);
      }
      SHOAL_ASSIGN(auto model,
                   parse_link_model(std::string_view(word).substr(kEmulatedPrefix.size())));
      links.push_back({BenchLink::Kind::kEmulated, std::move(model)});
    } else if (word == "shm") {
      links.push_back({kShm, {}});
    } else if (word == "tls" || word == "plain") {
      links.push_back({word == "tls" ? kTls : kPlain, {}});
    } else if (word == "tcp") {
      links.push_back({kTls, {}});
      links.push_back({kPlain, {}});
    } else {
      return fail(ErrorCode::kInvalidArgument,
                  "--link '{}' is not a kind of link; use shm, tcp, tls, plain or "
                  "emulated:NAME, separated by commas",
                  word);
    }
  }
  return links;
}

Result<std::vector<uint64_t>> parse_sizes(std::string_view text) {
  std::vector<uint64_t> sizes;
  for (const std::string_view part : split(text)) {
    const auto bytes = parse_bytes(part);
    if (!bytes) return std::unexpected(bytes.error().within("--sizes"));
    if (*bytes < 1 || *bytes > kLargestBytes) {
      return fail(ErrorCode::kInvalidArgument, "--sizes {}: a frame has 1 to {} bytes", part,
                  kLargestBytes);
    }
    sizes.push_back(*bytes);
  }
  return sizes;
}

Result<std::vector<LinkBenchResult>> bench_links(const LinkBenchOptions& options,
                                                 const LinkBenchProgress& progress) {
  std::vector<LinkBenchResult> results;
  for (const uint64_t bytes : options.sizes) {
    for (const BenchLink& link : options.links) {
      if (!progress(link.name(), bytes)) {
        return fail(ErrorCode::kCancelled, "interrupted");
      }
      SHOAL_ASSIGN(auto result, measure(link, bytes, options.seconds));
      results.push_back(std::move(result));
    }
  }
  return results;
}

std::string links_text(const std::vector<LinkBenchResult>& results) {
  constexpr auto kRow = "{:>9}  {:<26} {:>10} {:>10} {:>9}\n";
  std::string text = fmt::format(kRow, "frame", "link", "p50", "p99", "GB/s");
  uint64_t last = 0;
  for (const LinkBenchResult& result : results) {
    text += fmt::format(kRow, result.bytes == last ? "" : binary_size(result.bytes), label(result),
                        short_time(result.exchange_p50_s), short_time(result.exchange_p99_s),
                        fmt::format("{:.3g}", result.bytes_per_s * 1e-9));
    last = result.bytes;
  }
  return text +
         "\np50, p99: two ranks of this machine each send a frame and wait for the other's;\n"
         "GB/s: in each direction, both at once\n";
}

Json links_json(const std::vector<LinkBenchResult>& results) {
  Json list = Json::array();
  for (const LinkBenchResult& result : results) {
    list.push_back({{"link", result.link},
                    {"mode", result.mode},
                    {"bytes", result.bytes},
                    {"exchange_p50_s", result.exchange_p50_s},
                    {"exchange_p99_s", result.exchange_p99_s},
                    {"bytes_per_s", result.bytes_per_s}});
  }
  return list;
}

Json peers_json(const Json& nodes) {
  Json list = Json::array();
  for (const Json& node : nodes.value("nodes", Json::array())) {
    if (!node.contains("round_trip_s")) continue;
    list.push_back({{"node", node.value("name", "")},
                    {"id", node.value("id", "")},
                    {"round_trip_s", node.value("round_trip_s", 0.0)},
                    {"bytes_per_s", node.value("bytes_per_s", 0.0)},
                    {"age_s", node.value("link_age_s", 0.0)}});
  }
  return list;
}

std::string peers_text(const Json& nodes) {
  const Json peers = peers_json(nodes);
  if (peers.empty()) return "";
  constexpr auto kRow = "{:<36} {:>10} {:>9} {:>16}\n";
  std::string text =
      fmt::format("\n{}", fmt::format(kRow, "from this node to", "round trip", "GB/s", "measured"));
  for (const Json& peer : peers) {
    text += fmt::format(kRow, peer.value("node", "").substr(0, 36),
                        short_time(peer.value("round_trip_s", 0.0)),
                        fmt::format("{:.3g}", peer.value("bytes_per_s", 0.0) * 1e-9),
                        fmt::format("{} ago", format_duration(peer.value("age_s", 0.0))));
  }
  return text;
}

}  // namespace shoal::cli
