// bench links: measures every kind of link on this machine, and has the daemon measure those to
// other nodes.
#include <iostream>

#include "base/units.h"
#include "cli/bench_links.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/screen.h"

namespace shoal::cli {
namespace {

// The two vectors of an all-reduce of a decoded row, in each payload type; parts of a prompt's.
constexpr std::string_view kSizes = "16KiB,32KiB,64KiB,1MiB,2MiB";
constexpr std::string_view kLinks = "shm,plain,tls";

// Those to --node that are on this machine only.
Status check_between(const LinkBenchOptions& options) {
  for (const BenchLink& link : options.links) {
    if (link.kind == BenchLink::Kind::kTls || link.kind == BenchLink::Kind::kPlain) continue;
    return fail(ErrorCode::kInvalidArgument,
                "--link {} is a link on this machine; to --node lead tls and plain", link.name());
  }
  return {};
}

Result<BetweenNodes> measure_between(Client& client, const LinkBenchOptions& options,
                                     const std::string& node, Progress& progress) {
  BetweenNodes between;
  std::optional<Error> error;
  const auto on_line = [&](std::string_view text) {
    const Result<Json> line = parse_json(text);
    if (!line || !line->is_object() || add_line(between, *line)) return;
    if (const auto said = error_from_json(*line)) error = said;
    if (line->contains("phase")) progress.show(line->value("phase", ""), 0, 0);
  };
  SHOAL_TRY(client.stream(
      "/admin/bench/links",
      between_nodes_request(options.links, options.sizes, options.seconds, node), on_line));
  if (error) return std::unexpected(*error);
  return between;
}

void explain(const BetweenNodes& between) {
  for (const BetweenNodes::Refusal& one : between.refused)
    fmt::print(stderr, "not measured over {}: {}\n", one.mode, one.reason);
}

}  // namespace

int bench_links_command(const Common& common, const BenchLinksArguments& arguments) {
  catch_interrupts();
  LinkBenchOptions options;
  const bool between_only = !arguments.node.empty();
  const std::string default_links = between_only ? "plain,tls" : std::string(kLinks);
  auto links = parse_bench_links(arguments.links.value_or(default_links));
  if (!links) return report(common, links.error());
  auto sizes = parse_sizes(arguments.sizes.value_or(std::string(kSizes)));
  if (!sizes) return report(common, sizes.error());
  options.links = std::move(*links);
  options.sizes = std::move(*sizes);
  if (between_only) {
    if (const Status possible = check_between(options); !possible)
      return report(common, possible.error());
  }
  Progress progress(common.quiet);
  std::vector<LinkBenchResult> results;
  if (!between_only) {
    auto measured = bench_links(options, [&](const std::string& link, uint64_t bytes) {
      progress.show(fmt::format("{}, {}", link, format_bytes(bytes)), 0, 0);
      return !interrupted();
    });
    if (!measured) {
      progress.clear();
      return report(common, measured.error());
    }
    results = std::move(*measured);
  }
  // Links that were asked for by name are on this machine; otherwise a daemon adds those to other
  // nodes, and its absence is no error.
  BetweenNodes between;
  Json nodes = Json::object();
  if (between_only || !arguments.links) {
    Client client = common.client();
    auto measured = measure_between(client, options, arguments.node, progress);
    progress.clear();
    const bool alone = !measured && measured.error().code == ErrorCode::kUnreachable;
    if (!measured && (between_only || measured.error().code == ErrorCode::kCancelled))
      return report(common, measured.error());
    if (!measured && !alone) fmt::print(stderr, "between nodes: {}\n", measured.error().message);
    if (measured) between = std::move(*measured);
    if (const Result<Json> answer = client.get("/admin/nodes")) nodes = *answer;
  }
  progress.clear();
  explain(between);
  if (common.json) {
    std::cout << dump_json(Json{{"results", links_json(results)},
                                {"between_nodes", between_nodes_json(between)},
                                {"not_measured", not_measured_json(between)},
                                {"peers", peers_json(nodes)}},
                           2)
              << '\n';
    return 0;
  }
  if (!between_only) std::cout << links_text(results);
  std::cout << between_nodes_text(between);
  // What was measured before is better than nothing.
  if (between.measured.empty()) std::cout << peers_text(nodes);
  return 0;
}

}  // namespace shoal::cli
