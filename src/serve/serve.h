// `shoal serve`: the daemon of a node. One thread runs everything but blocking file work. It never
// parses a model file, a template or a prompt: those live in child processes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::serve {

struct ServeOptions {
  std::string home;
  std::string listen = "127.0.0.1:7465";
  std::string cluster_listen = "0.0.0.0:7466";
  std::vector<std::string> peers;
  std::optional<uint64_t> memory_bytes;
  std::string name;
  std::string link_mode;  // "" keeps what the cluster has
  std::string api_key;
  int threads = 0;
  std::string isa;
  bool quiet = false;
  bool ephemeral = false;  // ends when standard input closes
};

// Until SIGINT or SIGTERM. Returns the exit code.
int serve_main(const ServeOptions& options);

}  // namespace shoal::serve
