#include "serve/api_backend.h"

#include <algorithm>

namespace shoal::serve {
namespace {

constexpr int kAttempts = 20;
constexpr std::chrono::milliseconds kBetweenAttempts{500};

// A client's stream. A request whose lead is lost before it has begun to answer is sent again, to
// the instance as it is formed anew: nobody has seen anything of it yet.
class RoutedStream final : public api::EventStream {
 public:
  RoutedStream(Context& context, Router& router, GenerateRequest request,
               std::shared_ptr<serve::EventStream> stream)
      : context_(context),
        router_(router),
        request_(std::move(request)),
        stream_(std::move(stream)) {}
  ~RoutedStream() override { stream_->cancel(); }

  asio::awaitable<Event> next() override {
    Event event = co_await stream_->next();
    for (int attempt = 1; attempt < kAttempts && may_be_sent_again(event); ++attempt) {
      co_await sleep_for(context_.loop, kBetweenAttempts);
      Result<std::shared_ptr<serve::EventStream>> again = co_await router_.start(request_);
      if (!again) {
        event.error = again.error();
        continue;
      }
      stream_ = std::move(*again);
      if (cancelled_) stream_->cancel();
      event = co_await stream_->next();
    }
    begun_ = true;
    co_return event;
  }

  void cancel() override {
    cancelled_ = true;
    stream_->cancel();
  }

 private:
  bool may_be_sent_again(const Event& event) const {
    return !begun_ && !cancelled_ && event.kind == Event::Kind::kError &&
           event.error.code == ErrorCode::kUnreachable;
  }

  Context& context_;
  Router& router_;
  GenerateRequest request_;
  std::shared_ptr<serve::EventStream> stream_;
  bool begun_ = false;
  bool cancelled_ = false;
};

}  // namespace

asio::awaitable<Result<std::unique_ptr<api::EventStream>>> DaemonApi::start(
    GenerateRequest request) {
  Result<std::shared_ptr<EventStream>> stream = co_await router_.start(request);
  for (int attempt = 1;
       attempt < kAttempts && !stream && stream.error().code == ErrorCode::kUnreachable;
       ++attempt) {
    co_await sleep_for(context_.loop, kBetweenAttempts);
    stream = co_await router_.start(request);
  }
  if (!stream) co_return std::unexpected(stream.error());
  co_return std::make_unique<RoutedStream>(context_, router_, std::move(request),
                                           std::move(*stream));
}

std::vector<api::ModelEntry> DaemonApi::models() {
  std::vector<api::ModelEntry> entries;
  const auto known = [&](const std::string& id) {
    return std::any_of(entries.begin(), entries.end(),
                       [&](const api::ModelEntry& entry) { return entry.id == id; });
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
