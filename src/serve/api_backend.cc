#include "serve/api_backend.h"

#include <algorithm>

namespace shoal::serve {
namespace {

class RoutedStream final : public api::EventStream {
 public:
  explicit RoutedStream(std::shared_ptr<serve::EventStream> stream) : stream_(std::move(stream)) {}
  ~RoutedStream() override { stream_->cancel(); }
  asio::awaitable<Event> next() override { return stream_->next(); }
  void cancel() override { stream_->cancel(); }

 private:
  std::shared_ptr<serve::EventStream> stream_;
};

}  // namespace

asio::awaitable<Result<std::unique_ptr<api::EventStream>>> DaemonApi::start(GenerateRequest request) {
  Result<std::shared_ptr<EventStream>> stream = co_await router_.start(std::move(request));
  if (!stream) co_return std::unexpected(stream.error());
  co_return std::make_unique<RoutedStream>(std::move(*stream));
}

std::vector<api::ModelEntry> DaemonApi::models() {
  std::vector<api::ModelEntry> entries;
  const auto known = [&](const std::string& id) {
    return std::any_of(entries.begin(), entries.end(), [&](const api::ModelEntry& entry) { return entry.id == id; });
  };
  for (const Json& instance : router_.all_instances()) {
    api::ModelEntry entry;
    entry.id = instance.value("model", "");
    entry.state = instance.value("state", "");
    if (!known(entry.id)) entries.push_back(std::move(entry));
  }
  for (const ModelFile& file : on_disk_) {
    if (known(file.name)) continue;
    api::ModelEntry entry;
    entry.id = file.name;
    entry.state = "on disk";
    entries.push_back(std::move(entry));
  }
  return entries;
}

Json DaemonApi::health() {
  size_t ready = 0;
  const Json instances = router_.all_instances();
  for (const Json& instance : instances) ready += instance.value("state", "") == "ready" ? 1 : 0;
  return {{"status", "ok"},
          {"node", context_.node.facts().name},
          {"nodes", context_.node.peers().size() + 1},
          {"instances", instances.size()},
          {"instances_ready", ready}};
}

}  // namespace shoal::serve
