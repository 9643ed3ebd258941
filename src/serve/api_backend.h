// What the daemon puts behind the API: the router's streams, the models on disk and running. On the
// loop's thread.
#pragma once

#include "api/api.h"
#include "serve/router.h"

namespace shoal::serve {

class DaemonApi final : public api::ApiBackend {
 public:
  DaemonApi(Context& context, Router& router) : context_(context), router_(router) {}

  asio::awaitable<Result<std::unique_ptr<api::EventStream>>> start(
      GenerateRequest request) override;
  std::vector<api::ModelEntry> models() override;
  Json health() override;

  // Models on disk, as last listed off the loop.
  void set_on_disk(std::vector<ModelFile> files) { on_disk_ = std::move(files); }
  const std::vector<ModelFile>& on_disk() const { return on_disk_; }

 private:
  Context& context_;
  Router& router_;
  std::vector<ModelFile> on_disk_;
};

}  // namespace shoal::serve
