// Requests on the node port: who may ask what.
#include "cluster/addresses.h"
#include "cluster/node_state.h"

namespace shoal::cluster {

asio::awaitable<void> NodeState::answer(http::Exchange& exchange) {
  const http::Request& request = exchange.request();
  const std::string& from = request.peer_fingerprint;
  const auto reply = [&](const Result<Json>& result) {
    return exchange.respond(result ? json_response(*result) : error_response(result.error()));
  };
  if (stopping) {
    co_await reply(fail(ErrorCode::kUnreachable, "this node is stopping"));
    co_return;
  }
  const bool post = request.method == "POST";
  if (post && request.path == "/control/pair") {
    co_await reply(answer_pair(request));
    co_return;
  }
  if (!list.is_member(from)) {
    co_await reply(
        fail(ErrorCode::kPermission, "this node does not know yours: only members are answered"));
    co_return;
  }
  if (post && request.path == "/control/heartbeat") {
    const auto result = answer_heartbeat(request);
    // A version not ours still learns which one this is.
    if (!result && result.error().code == ErrorCode::kUnsupported) {
      http::Response response = error_response(result.error());
      Json body = *parse_json(response.body);
      body["protocol"] = options.protocol;
      response.body = dump_json(body);
      co_await exchange.respond(std::move(response));
      co_return;
    }
    co_await reply(result);
    co_return;
  }
  if (post && request.path == "/control/removed") {
    co_await reply(answer_removed(request));
    co_return;
  }
  if (post && request.path == "/control/leave") {
    co_await reply(answer_leave(request));
    co_return;
  }
  const std::string exclusion = membership.exclusion(from, Clock::now());
  if (!exclusion.empty()) {
    co_await reply(
        fail(ErrorCode::kConflict, "this node excludes {}: {}", name_of(from), exclusion));
    co_return;
  }
  if (post && (request.path == "/control/probe" || request.path == "/control/time_link")) {
    co_await reply(answer_probe(request));
    co_return;
  }
  http::Handler handler;
  size_t longest = 0;
  for (const auto& [prefix, candidate] : routes) {
    if (!request.path.starts_with(prefix) || prefix.size() < longest) continue;
    handler = candidate;
    longest = prefix.size();
  }
  if (handler) {
    co_await handler(exchange);
    co_return;
  }
  co_await reply(
      fail(ErrorCode::kNotFound, "there is nothing at {} {}", request.method, request.path));
}

Result<Json> NodeState::answer_heartbeat(const http::Request& request) {
  SHOAL_ASSIGN(const Json json, parse_json(request.body));
  SHOAL_ASSIGN(const Hello hello, hello_from_json(json, options.protocol));
  const std::string from = request.peer_fingerprint;
  const auto found = peers.find(from);
  if (found == peers.end())
    return fail(ErrorCode::kConflict, "this is the node's own identity: is its home in use twice?");
  const auto peer = found->second;
  if (!hello.addresses.empty()) {
    peer->observed = observed_address(request.peer_address, hello.addresses.front());
  }
  absorb(*peer, hello, hello.hears_you);
  if (hello.protocol != options.protocol) {
    return fail(ErrorCode::kUnsupported,
                "{} speaks protocol version {}, {} version {}: run the same Shoal version on both",
                options.node_name, options.protocol, name_of(from), hello.protocol);
  }
  return to_json(hello_for(from));
}

}  // namespace shoal::cluster
