// bench links: measures every kind of link on this machine, and shows what the daemon knows of
// those to other nodes.
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

}  // namespace

int bench_links_command(const Common& common, const BenchLinksArguments& arguments) {
  catch_interrupts();
  LinkBenchOptions options;
  auto links = parse_bench_links(arguments.links.value_or(std::string(kLinks)));
  if (!links) return report(common, links.error());
  auto sizes = parse_sizes(arguments.sizes.value_or(std::string(kSizes)));
  if (!sizes) return report(common, sizes.error());
  options.links = std::move(*links);
  options.sizes = std::move(*sizes);
  Progress progress(common.quiet);
  const auto results = bench_links(options, [&](const std::string& link, uint64_t bytes) {
    progress.show(fmt::format("{}, {}", link, format_bytes(bytes)), 0, 0);
    return !interrupted();
  });
  progress.clear();
  if (!results) return report(common, results.error());
  // Links that were asked for by name are on this machine; otherwise a daemon adds what it knows,
  // and its absence is no error.
  Json nodes = Json::object();
  if (!arguments.links) {
    Client client = common.client();
    if (const Result<Json> answer = client.get("/admin/nodes")) nodes = *answer;
  }
  if (common.json) {
    std::cout << dump_json(Json{{"results", links_json(*results)}, {"peers", peers_json(nodes)}}, 2)
              << '\n';
  } else {
    std::cout << links_text(*results) << peers_text(nodes);
  }
  return 0;
}

}  // namespace shoal::cli
