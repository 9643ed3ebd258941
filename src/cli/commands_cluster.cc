// cluster invite, join, leave, remove.
#include <iostream>

#include "cli/commands.h"

namespace shoal::cli {
namespace {

int cluster_call(const Common& common, const std::string& verb, const Json& body,
                 const std::string& done) {
  Client client = common.client();
  const Result<Json> answer = client.post("/admin/cluster/" + verb, body);
  if (!answer) return report(common, answer.error());
  if (common.json) {
    std::cout << dump_json(*answer, 2) << '\n';
  } else if (!common.quiet) {
    fmt::print(stderr, "{}\n", done);
  }
  return 0;
}

}  // namespace

int invite_command(const Common& common) {
  Client client = common.client();
  const Result<Json> answer = client.post("/admin/cluster/invite", Json::object());
  if (!answer) return report(common, answer.error());
  if (common.json) {
    std::cout << dump_json(*answer, 2) << '\n';
    return 0;
  }
  if (!common.quiet)
    fmt::print(
        stderr,
        "On the other machine, within ten minutes: shoal cluster join CODE, with this code:\n");
  std::cout << answer->value("code", "") << '\n';
  return 0;
}

int join_command(const Common& common, const std::string& code) {
  return cluster_call(common, "join", {{"code", code}},
                      "This node has joined; `shoal nodes` shows the cluster.");
}

int leave_command(const Common& common) {
  return cluster_call(common, "leave", Json::object(), "This node is a cluster of one again.");
}

int remove_command(const Common& common, const std::string& node) {
  return cluster_call(common, "remove", {{"node", node}},
                      fmt::format("{} is no longer a member.", node));
}

}  // namespace shoal::cli
