// What the daemon answers besides the API: the command line over its Unix socket (/admin/...),
// other nodes over node links
// (/control/...). On the loop's thread.
#pragma once

#include "api/api.h"
#include "serve/router.h"

namespace shoal::serve {

class Routes {
 public:
  Routes(Context& context, LocalShards& shards, Instances& instances, Router& router,
         std::string api_address);

  Task<void> admin(http::Exchange& exchange);    // of the Unix socket
  Task<void> control(http::Exchange& exchange);  // of members, over mutual TLS

 private:
  Task<Result<Json>> admin_answer(const std::string& path, const Json& body);
  Task<Result<Json>> cluster_answer(const std::string& path, const Json& body);
  Task<void> admin_place(http::Exchange& exchange, Json body);
  Task<Result<Json>> admin_plan(Json body);
  Task<Result<Json>> control_instance(const std::string& verb, Json body);
  Task<void> send_file(http::Exchange& exchange, std::string sha256);
  Json nodes() const;
  Json status() const;

  Context& context_;
  LocalShards& shards_;
  Instances& instances_;
  Router& router_;
  std::string api_address_;
};

}  // namespace shoal::serve
