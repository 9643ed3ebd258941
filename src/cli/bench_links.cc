#include "cli/bench_links.h"

#include <algorithm>
#include <thread>

#include "base/cpu.h"
#include "base/units.h"
#include "cli/bench_links_text.h"
#include "cluster/link_timing.h"
#include "transport/emulated.h"
#include "transport/shm.h"

namespace shoal::cli {
namespace {

constexpr std::string_view kEmulatedPrefix = "emulated:";
constexpr std::chrono::seconds kOneWait{60};
constexpr uint64_t kLargestBytes = 256 << 20;

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

Result<LinkBenchResult> measure(const BenchLink& kind, uint64_t bytes, double seconds) {
  SHOAL_ASSIGN(Ends ends, ends_of(kind));
  const std::vector<int> cores = usable_cores();
  const auto pin = [&](size_t rank) {
    // Where it cannot be pinned it runs all the same.
    if (cores.size() >= 2) (void)pin_this_thread(cores[rank]);
  };
  Result<cluster::FrameTimes> times = cluster::FrameTimes();
  std::thread first([&] {
    pin(0);
    times = cluster::time_exchanges(*ends.first, bytes, {.seconds = seconds});
    if (!times) ends.first->abandon(times.error());
    ends.first.reset();
  });
  std::thread second([&] {
    pin(1);
    cluster::follow_timing(*ends.second, bytes, kNoDeadline);
  });
  first.join();
  second.join();
  if (!times) return std::unexpected(times.error());
  return LinkBenchResult{.link = kind.name(),
                         .mode = std::string(kind.mode()),
                         .bytes = bytes,
                         .exchange_p50_s = times->p50_s,
                         .exchange_p99_s = times->p99_s,
                         .bytes_per_s = times->bytes_per_s};
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

std::string link_row(std::string_view frame, std::string_view link, std::string_view p50,
                     std::string_view p99, std::string_view giga_bytes_per_s) {
  std::string row = fmt::format("{:>9}  {:<26} {:>10} {:>10} {:>9}", frame, link.substr(0, 26), p50,
                                p99, giga_bytes_per_s);
  row.erase(row.find_last_not_of(' ') + 1);
  return row + '\n';
}

std::string binary_size(uint64_t bytes) {
  if (bytes >= 1 << 20 && bytes % (1 << 20) == 0) return fmt::format("{} MiB", bytes >> 20);
  if (bytes >= 1 << 10 && bytes % (1 << 10) == 0) return fmt::format("{} KiB", bytes >> 10);
  return fmt::format("{} B", bytes);
}

std::string short_time(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.1f} us", seconds * 1e6) : format_duration(seconds);
}

std::string links_text(const std::vector<LinkBenchResult>& results) {
  std::string text = link_row("frame", "link", "p50", "p99", "GB/s");
  uint64_t last = 0;
  for (const LinkBenchResult& result : results) {
    text += link_row(result.bytes == last ? "" : binary_size(result.bytes), label(result),
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
      "\n" + fmt::format(kRow, "from this node to", "round trip", "GB/s", "measured");
  for (const Json& peer : peers) {
    text += fmt::format(kRow, peer.value("node", "").substr(0, 36),
                        short_time(peer.value("round_trip_s", 0.0)),
                        fmt::format("{:.3g}", peer.value("bytes_per_s", 0.0) * 1e-9),
                        fmt::format("{} ago", format_duration(peer.value("age_s", 0.0))));
  }
  return text;
}

}  // namespace shoal::cli
