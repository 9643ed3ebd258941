// plan, and links: the topology that plans are made for.
#include <chrono>
#include <iostream>

#include "base/file.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/plan_text.h"
#include "cli/screen.h"
#include "serve/child.h"

namespace shoal::cli {
namespace {

// A model that is not on disk is looked at where it lies, over the network.
constexpr std::chrono::seconds kInspectTimeout{120};

// Whatever is wrong with the file's content is wrong usage.
Result<Topology> read_topology(const std::string& path) {
  SHOAL_ASSIGN(const std::string text, read_file(path));
  const auto refused = [&](const Error& error) {
    return fail(ErrorCode::kInvalidArgument, "{}: {}", path, error.message);
  };
  const Result<Json> json = parse_json(text);
  if (!json) return refused(json.error());
  Result<Topology> topology = topology_from_json(*json);
  if (!topology) return refused(topology.error());
  return topology;
}

// As `shoal inspect` sees the model, in a child, for the file may be hostile.
Result<ModelCard> card_of(const Common& common, const std::string& model) {
  SHOAL_ASSIGN(const std::string text,
               serve::run_child({"inspect", "--card", "--json", "--quiet", "--home", common.home,
                                 "--", model_for_daemon(model)},
                                kInspectTimeout));
  SHOAL_ASSIGN(const Json json, parse_json(text));
  return model_card_from_json(json);
}

// No daemon is asked: the machines of a file need not exist.
Result<Json> plan_for_file(const Common& common, const PlanArguments& arguments) {
  SHOAL_ASSIGN(const Topology topology, read_topology(arguments.topology_path));
  SHOAL_ASSIGN(const Wish wish, wish_from_json(wish_json(common, arguments)));
  SHOAL_ASSIGN(const ModelCard card, card_of(common, arguments.model));
  SHOAL_ASSIGN(const Placement placement, place(topology, card, wish));
  return to_json(placement);
}

std::string links_table(const Topology& topology) {
  const auto name_of = [&](const std::string& id) {
    for (const NodeFacts& node : topology.nodes) {
      if (node.id == id && !node.name.empty()) return node.name;
    }
    return id.substr(0, 8);
  };
  Table table({"link", "", "round trip", "each way"});
  for (const LinkFacts& link : topology.links) {
    table.add({name_of(link.a), name_of(link.b), format_duration(link.round_trip_s),
               format_bytes(static_cast<uint64_t>(link.bytes_per_s)) + "/s"});
  }
  return table.text();
}

}  // namespace

Json wish_json(const Common& common, const PlanArguments& arguments) {
  Json wish = {{"model", model_for_daemon(arguments.model)}};
  if (common.context > 0) wish["context"] = common.context;
  if (arguments.sequences > 0) wish["sequences"] = arguments.sequences;
  if (!common.kv_type.empty()) wish["kv_type"] = common.kv_type;
  if (arguments.nodes > 0) wish["node_count"] = arguments.nodes;
  if (!arguments.mode.empty()) wish["mode"] = arguments.mode;
  if (!arguments.payload.empty()) wish["payload"] = arguments.payload;
  return wish;
}

int plan_command(const Common& common, const PlanArguments& arguments) {
  catch_interrupts();
  const bool with_file = !arguments.topology_path.empty();
  Client client = common.client();
  const Result<Json> placement = with_file
                                     ? plan_for_file(common, arguments)
                                     : client.post("/admin/plan", wish_json(common, arguments));
  if (!placement) return report(common, placement.error());
  std::cout << (common.json ? dump_json(*placement, 2) + "\n" : placement_text(*placement));
  return 0;
}

int links_command(const Common& common) {
  Client client = common.client();
  const Result<Json> answer = client.get("/admin/topology");
  if (!answer) return report(common, answer.error());
  if (common.json) {
    std::cout << dump_json(*answer, 2) << '\n';
    return 0;
  }
  const Result<Topology> topology = topology_from_json(*answer);
  if (!topology) return report(common, topology.error());
  if (topology->links.empty()) {
    fmt::print(stderr, "{}\n",
               topology->nodes.size() > 1
                   ? "No link has been measured yet."
                   : "This node is alone. `shoal cluster invite` lets another join.");
    return 0;
  }
  std::cout << links_table(*topology);
  return 0;
}

}  // namespace shoal::cli
