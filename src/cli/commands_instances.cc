// place, ps, stop, nodes, status.
#include <filesystem>
#include <iostream>

#include "base/counted.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/plan_text.h"
#include "cli/screen.h"

namespace shoal::cli {
namespace {

void print_json(const Json& json) {
  std::cout << dump_json(json, 2) << '\n';
}

Result<Json> place_on_disk(const Common& common, Client& client, const PlanArguments& arguments) {
  Progress progress(common.quiet);
  std::optional<Error> error;
  Json instance;
  const auto on_line = [&](std::string_view line) {
    const Result<Json> event = parse_json(line);
    if (!event || !event->is_object()) return;
    if (const auto said = error_from_json(*event)) {
      error = said;
    } else if (event->contains("instance")) {
      instance = (*event)["instance"];
    } else {
      progress.show(event->value("phase", "working"), event->value("done_bytes", uint64_t{0}),
                    event->value("total_bytes", uint64_t{0}));
    }
  };
  SHOAL_TRY(client.stream("/admin/place", wish_json(common, arguments), on_line));
  if (error) return std::unexpected(*error);
  if (!instance.is_object())
    return fail(ErrorCode::kUnreachable, "the daemon ended before the model was placed");
  return instance;
}

std::string state_of(const Json& instance) {
  std::string state = instance.value("state", "");
  if (const std::string reason = instance.value("reason", ""); !reason.empty())
    state += ": " + reason;
  return state;
}

}  // namespace

std::string model_for_daemon(const std::string& model) {
  const bool path = model.find('/') != std::string::npos || model.ends_with(".gguf");
  if (model.starts_with("hf:") || model.starts_with("ollama:") || !path) return model;
  std::error_code ignored;
  return std::filesystem::absolute(model, ignored).lexically_normal().string();
}

Result<Json> place_model(const Common& common, Client& client, const PlanArguments& arguments) {
  Result<Json> placed = place_on_disk(common, client, arguments);
  if (placed || placed.error().code != ErrorCode::kNotFound ||
      model_for_daemon(arguments.model).starts_with("/"))
    return placed;
  SHOAL_TRY(pull_with_progress(common, arguments.model));
  return place_on_disk(common, client, arguments);
}

int place_command(const Common& common, const PlanArguments& arguments) {
  catch_interrupts();
  Client client = common.client();
  const Result<Json> placed = place_model(common, client, arguments);
  if (!placed) return report(common, placed.error());
  if (common.json) {
    print_json(*placed);
  } else {
    std::cout << plan_line(*placed);
  }
  return 0;
}

int ps_command(const Common& common) {
  Client client = common.client();
  const Result<Json> answer = client.get("/admin/ps");
  if (!answer) return report(common, answer.error());
  if (common.json) {
    print_json(*answer);
    return 0;
  }
  const Json& instances = (*answer)["instances"];
  if (instances.empty()) {
    fmt::print(stderr, "No model runs. `shoal run MODEL` starts one.\n");
    return 0;
  }
  for (const Json& instance : instances) {
    std::cout << fmt::format("{}  {}\n", instance.value("model", ""),
                             wrapped(state_of(instance), 60, 4));
    std::cout << "  " << plan_line(instance);
    if (!instance.contains("ranks") || instance["ranks"].empty()) continue;
    Table table(
        {"  rank", "node", "memory", "resident peak", "compute/token", "wait/token", "state"});
    for (const Json& rank : instance["ranks"]) {
      const Json stats = rank.value("stats", Json::object());
      const double steps = stats.value("decode_steps", 0.0);
      const auto per_token = [&](const char* name) {
        return steps > 0 ? format_duration(stats.value(name, 0.0) / steps) : "-";
      };
      const uint64_t held = stats.value("weight_bytes", uint64_t{0}) +
                            stats.value("kv_bytes", uint64_t{0}) +
                            stats.value("activation_bytes", uint64_t{0});
      table.add({fmt::format("  {}", rank.value("rank", 0)), rank.value("node_name", ""),
                 format_bytes(held), format_bytes(stats.value("resident_peak_bytes", uint64_t{0})),
                 per_token("decode_compute_s"), per_token("decode_wait_s"),
                 rank.value("state", "")});
    }
    std::cout << table.text();
  }
  return 0;
}

int stop_command(const Common& common, const std::string& model) {
  Client client = common.client();
  const Result<Json> answer = client.post("/admin/stop", {{"model", model_for_daemon(model)}});
  if (!answer) return report(common, answer.error());
  if (common.json) print_json(*answer);
  if (!common.json && !common.quiet) fmt::print(stderr, "{} is stopped.\n", model);
  return 0;
}

int nodes_command(const Common& common) {
  Client client = common.client();
  const Result<Json> answer = client.get("/admin/nodes");
  if (!answer) return report(common, answer.error());
  if (common.json) {
    print_json(*answer);
    return 0;
  }
  Table table(
      {"node", "id", "state", "cores", "memory", "free", "read/s", "round trip", "address"});
  for (const Json& node : (*answer)["nodes"]) {
    const Json facts = node.value("facts", Json::object());
    const uint64_t memory = facts.value("memory_bytes", uint64_t{0});
    const uint64_t reserved = facts.value("memory_reserved_bytes", uint64_t{0});
    table.add(
        {node.value("name", ""), node.value("id", "").substr(0, 8), node.value("state", ""),
         std::to_string(facts.value("cores", 0)), format_bytes(memory),
         format_bytes(memory - std::min(memory, reserved)),
         format_bytes(static_cast<uint64_t>(facts.value("read_bytes_per_s", 0.0))),
         node.contains("round_trip_s") ? format_duration(node.value("round_trip_s", 0.0)) : "-",
         node.value("address", "")});
    if (const std::string reason = node.value("reason", ""); !reason.empty())
      fmt::print(stderr, "{}: {}\n", node.value("name", ""), reason);
  }
  std::cout << table.text();
  return 0;
}

int status_command(const Common& common) {
  Client client = common.client();
  const Result<Json> answer = client.get("/admin/status");
  if (!answer) return report(common, answer.error());
  if (common.json) {
    print_json(*answer);
    return 0;
  }
  std::cout << fmt::format(
      "node     {} ({})\nAPI      http://{}\ncluster  {}, port {}, links {}\nhome     {}\n",
      answer->value("name", ""), answer->value("id", "").substr(0, 16),
      answer->value("api_address", ""), counted(answer->value("node_count", 0), "node"),
      answer->value("cluster_port", 0), answer->value("link_mode", ""), answer->value("home", ""));
  return 0;
}

}  // namespace shoal::cli
