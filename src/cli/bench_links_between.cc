// `shoal bench links` between nodes: what the daemon is asked, and what its answer says.
#include <algorithm>

#include "base/units.h"
#include "cli/bench_links.h"
#include "cli/bench_links_text.h"
#include "cli/screen.h"

namespace shoal::cli {
namespace {

BetweenNodes::Times times_of(const Json& line) {
  BetweenNodes::Times times{.node = line.value("node", ""),
                            .id = line.value("id", ""),
                            .mode = line.value("mode", ""),
                            .round_trip_p50_s = line.value("round_trip_p50_s", 0.0),
                            .round_trip_p99_s = line.value("round_trip_p99_s", 0.0)};
  for (const Json& one : line.value("exchanges", Json::array())) {
    times.exchanges.push_back({.link = "tcp",
                               .mode = times.mode,
                               .bytes = one.value("bytes", uint64_t{0}),
                               .exchange_p50_s = one.value("exchange_p50_s", 0.0),
                               .exchange_p99_s = one.value("exchange_p99_s", 0.0),
                               .bytes_per_s = one.value("bytes_per_s", 0.0)});
  }
  return times;
}

// Of a node those of one size follow one another, so that its modes stand beside each other.
std::string table_of_node(const BetweenNodes& between, const std::string& id) {
  std::vector<const BetweenNodes::Times*> modes;
  size_t sizes = 0;
  for (const BetweenNodes::Times& times : between.measured) {
    if (times.id != id) continue;
    modes.push_back(&times);
    sizes = std::max(sizes, times.exchanges.size());
  }
  std::string text = link_row("frame", "to " + modes.front()->node, "p50", "p99", "GB/s");
  for (const BetweenNodes::Times* times : modes) {
    text += link_row(times == modes.front() ? "and back" : "", times->mode,
                     short_time(times->round_trip_p50_s), short_time(times->round_trip_p99_s), "");
  }
  for (size_t size = 0; size < sizes; ++size) {
    for (const BetweenNodes::Times* times : modes) {
      if (size >= times->exchanges.size()) continue;
      const LinkBenchResult& one = times->exchanges[size];
      text += link_row(times == modes.front() ? binary_size(one.bytes) : "", times->mode,
                       short_time(one.exchange_p50_s), short_time(one.exchange_p99_s),
                       fmt::format("{:.3g}", one.bytes_per_s * 1e-9));
    }
  }
  return text;
}

}  // namespace

Json between_nodes_request(const std::vector<BenchLink>& links, const std::vector<uint64_t>& sizes,
                           double seconds, const std::string& node) {
  Json modes = Json::array();
  for (const BenchLink& link : links) {
    const bool tcp = link.kind == BenchLink::Kind::kTls || link.kind == BenchLink::Kind::kPlain;
    if (tcp && std::ranges::find(modes, link.mode()) == modes.end()) modes.push_back(link.mode());
  }
  Json request = {{"sizes", sizes}, {"modes", std::move(modes)}, {"seconds", seconds}};
  if (!node.empty()) request["node"] = node;
  return request;
}

bool add_line(BetweenNodes& between, const Json& line) {
  if (!line.is_object()) return false;
  if (line.contains("refused")) {
    between.refused.push_back({line.value("node", ""), line.value("id", ""), line.value("mode", ""),
                               line.value("refused", "")});
  } else if (line.contains("exchanges")) {
    between.measured.push_back(times_of(line));
  } else {
    return false;
  }
  return true;
}

std::string between_nodes_text(const BetweenNodes& between) {
  std::string text;
  std::vector<std::string> shown;
  for (const BetweenNodes::Times& times : between.measured) {
    if (std::ranges::find(shown, times.id) != shown.end()) continue;
    shown.push_back(times.id);
    text += "\n" + table_of_node(between, times.id);
  }
  if (!shown.empty()) {
    text +=
        "\nmeasured now, from this node; p50, p99: both ends send a frame and wait for the\n"
        "other's; and back: a frame of 4 KiB there and back\n";
  }
  return text;
}

Json between_nodes_json(const BetweenNodes& between) {
  Json list = Json::array();
  for (const BetweenNodes::Times& times : between.measured) {
    for (const LinkBenchResult& one : times.exchanges) {
      list.push_back({{"node", times.node},
                      {"id", times.id},
                      {"link", one.link},
                      {"mode", one.mode},
                      {"bytes", one.bytes},
                      {"round_trip_p50_s", times.round_trip_p50_s},
                      {"round_trip_p99_s", times.round_trip_p99_s},
                      {"exchange_p50_s", one.exchange_p50_s},
                      {"exchange_p99_s", one.exchange_p99_s},
                      {"bytes_per_s", one.bytes_per_s}});
    }
  }
  return list;
}

Json not_measured_json(const BetweenNodes& between) {
  Json list = Json::array();
  for (const BetweenNodes::Refusal& one : between.refused) {
    list.push_back(
        {{"node", one.node}, {"id", one.id}, {"mode", one.mode}, {"reason", one.reason}});
  }
  return list;
}

}  // namespace shoal::cli
