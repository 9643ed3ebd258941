// What every part of the daemon needs. Owned by serve.cc; outlives all that holds a reference.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include "cluster/node_service.h"
#include "serve/serve.h"
#include "store/store.h"

namespace shoal::serve {

struct Context {
  boost::asio::io_context& loop;
  boost::asio::thread_pool& pool;  // blocking work
  const ServeOptions& options;
  Store& store;
  cluster::NodeService& node;
};

// How to fetch the file with this checksum from another member. kUnreachable.
inline Result<PeerSource> peer_source(Context& context, const std::string& node,
                                      const std::string& sha256) {
  SHOAL_ASSIGN(const std::string address, context.node.reachable_address(node));
  const http::TlsIdentity& identity = context.node.tls();
  return PeerSource{"https://" + address + "/control/files/" + sha256, node,
                    identity.certificate_pem, identity.private_key_pem};
}

}  // namespace shoal::serve
