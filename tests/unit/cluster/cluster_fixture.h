// Real nodes in one process: services on one loop, over loopback, each with a home of its own.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/bytes.h"
#include "cluster/control_message.h"
#include "cluster/node_service.h"

namespace shoal::cluster {

// A folder that goes with the test.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("shoal-cluster-" + to_hex(random_bytes(8)))) {
    std::filesystem::create_directory(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline NodeFacts facts_of_test() {
  NodeFacts facts;
  facts.memory_bytes = 8'000'000'000;
  facts.read_bytes_per_s = 1e10;
  facts.multiply_adds_per_s = 1e11;
  return facts;
}

class ClusterTest : public testing::Test {
 protected:
  // Starts a node in HOME/<name>; the port is kept over restarts.
  NodeService& start(const std::string& name, NodeServiceOptions options = {}) {
    options.home = folder_.path() + "/" + name;
    options.node_name = name;
    options.cluster_listen = "127.0.0.1:" + std::to_string(ports_[name]);
    NodeServiceCallbacks callbacks;
    callbacks.on_peer = [this, name](const PeerEvent& event) { events_[name].push_back(event); };
    callbacks.on_removed = [this, name](const std::string& reason) { removed_[name] = reason; };
    auto service =
        NodeService::start(loop_, std::move(options), facts_of_test(), std::move(callbacks));
    if (!service) throw std::runtime_error(service.error().message);
    ports_[name] = (*service)->port();
    nodes_[name] = std::move(*service);
    return *nodes_[name];
  }
  void stop(const std::string& name) {
    nodes_.erase(name);
    run_for(20);
  }
  NodeService& node(const std::string& name) { return *nodes_.at(name); }

  void run_for(int milliseconds) {
    loop_.restart();
    loop_.run_for(std::chrono::milliseconds(milliseconds));
  }
  // Runs the loop until the condition holds; false after 20 seconds.
  bool until(const std::function<bool()>& condition) {
    const auto end = Clock::now() + std::chrono::seconds(20);
    while (Clock::now() < end) {
      if (condition()) return true;
      run_for(5);
    }
    return condition();
  }

  template <typename T>
  T wait_for(asio::awaitable<T> work) {
    std::optional<T> result;
    asio::co_spawn(
        loop_, [&]() -> asio::awaitable<void> { result.emplace(co_await std::move(work)); },
        [](std::exception_ptr problem) {
          if (problem) std::rethrow_exception(problem);
        });
    until([&] { return result.has_value(); });
    if (!result) throw std::runtime_error("no answer within the test's time");
    return std::move(*result);
  }

  Status join(const std::string& joiner, const std::string& inviter) {
    const auto code = node(inviter).invite();
    if (!code) return std::unexpected(code.error());
    return wait_for(node(joiner).join(*code));
  }
  PeerStatus status(const std::string& of, const std::string& seen_by) {
    const auto view = node(seen_by).find_peer(of);
    return view ? view->status : PeerStatus::kNever;
  }
  bool alive(const std::string& of, const std::string& seen_by) {
    return status(of, seen_by) == PeerStatus::kAlive;
  }
  bool all_alive(const std::vector<std::string>& names) {
    for (const auto& a : names) {
      for (const auto& b : names) {
        if (a != b && !alive(a, b)) return false;
      }
    }
    return true;
  }
  std::string address(const std::string& name) {
    return "127.0.0.1:" + std::to_string(ports_.at(name));
  }

  TemporaryFolder folder_;
  asio::io_context loop_;
  std::map<std::string, uint16_t> ports_;
  std::map<std::string, std::unique_ptr<NodeService>> nodes_;
  std::map<std::string, std::vector<PeerEvent>> events_;
  std::map<std::string, std::string> removed_;
};

}  // namespace shoal::cluster
