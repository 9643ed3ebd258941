#include "serve/routes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>

#include "serve/answers.h"
#include "serve/link_bench.h"

namespace shoal::serve {
namespace {

constexpr size_t kFileChunk = 1 << 20;

Result<Json> body_of(const http::Request& request) {
  if (request.body.empty()) return Json::object();
  SHOAL_ASSIGN(Json body, parse_json(request.body));
  if (!body.is_object()) return fail(ErrorCode::kInvalidArgument, "the body is not a JSON object");
  return body;
}

struct FileRange {
  uint64_t begin;
  uint64_t end;  // exclusive
};

// "bytes=N-" and "bytes=N-M" (RFC 9110 section 14.1.2); anything else means the whole file.
std::optional<FileRange> range_of(const http::Headers& headers, uint64_t size) {
  const auto header = headers.find("Range");
  if (header == headers.end() || !header->second.starts_with("bytes=")) return std::nullopt;
  const std::string& text = header->second;
  FileRange range{0, size};
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data() + 6, end, range.begin);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '-') return std::nullopt;
  uint64_t last = 0;
  if (std::from_chars(first.ptr + 1, end, last).ec == std::errc())
    range.end = std::min(size, last + 1);
  return range;
}

}  // namespace

Routes::Routes(Context& context, LocalShards& shards, Instances& instances, Router& router,
               std::string api_address)
    : context_(context),
      shards_(shards),
      instances_(instances),
      router_(router),
      api_address_(std::move(api_address)) {}

Task<void> Routes::admin(http::Exchange& exchange) {
  const std::string path = exchange.request().path;
  Result<Json> body = body_of(exchange.request());
  if (!body) {
    co_await refuse(exchange, body.error());
    co_return;
  }
  if (path == "/admin/place") {
    co_await admin_place(exchange, std::move(*body));
    co_return;
  }
  if (path == "/admin/bench/links") {
    co_await bench_links(context_, exchange, std::move(*body));
    co_return;
  }
  const Result<Json> answer = co_await admin_answer(path, *body);
  if (answer) {
    co_await exchange.respond(json_response(*answer));
  } else {
    co_await refuse(exchange, answer.error());
  }
}

Task<Result<Json>> Routes::admin_answer(const std::string& path, const Json& body) {
  if (path == "/admin/status") co_return status();
  if (path == "/admin/nodes") co_return nodes();
  if (path == "/admin/topology") co_return to_json(context_.node.topology());
  if (path == "/admin/ps") co_return Json{{"instances", router_.all_instances()}};
  if (path == "/admin/plan") co_return co_await admin_plan(body);
  if (path == "/admin/stop") {
    const Result<std::string> model = json_field<std::string>(body, "model");
    if (!model) co_return std::unexpected(model.error());
    const Status stopped = co_await router_.stop(*model);
    if (!stopped) co_return std::unexpected(stopped.error());
    co_return Json{{"stopped", *model}};
  }
  if (path.starts_with("/admin/cluster/")) co_return co_await cluster_answer(path.substr(15), body);
  co_return fail(ErrorCode::kNotFound, "the daemon knows no {}; is it older than this command?",
                 path);
}

Task<Result<Json>> Routes::cluster_answer(const std::string& path, const Json& body) {
  if (path == "invite") {
    const Result<std::string> code = context_.node.invite();
    if (!code) co_return std::unexpected(code.error());
    co_return Json{{"code", *code}, {"expires_s", 600}};
  }
  Status done;
  if (path == "join") {
    const Result<std::string> code = json_field<std::string>(body, "code");
    if (!code) co_return std::unexpected(code.error());
    done = co_await context_.node.join(*code);
  } else if (path == "leave") {
    done = co_await context_.node.leave();
  } else if (path == "remove") {
    const Result<std::string> node = json_field<std::string>(body, "node");
    if (!node) co_return std::unexpected(node.error());
    done = co_await context_.node.remove(*node);
  } else {
    co_return fail(ErrorCode::kNotFound, "there is no 'cluster {}'", path);
  }
  if (!done) co_return std::unexpected(done.error());
  co_return nodes();
}

Task<void> Routes::admin_place(http::Exchange& exchange, Json body) {
  const Result<std::string> model = json_field<std::string>(body, "model");
  const Result<Wish> wish = wish_from_json(body);
  if (!model || !wish) {
    co_await refuse(exchange, !model ? model.error() : wish.error());
    co_return;
  }
  co_await exchange.begin(200, kJsonLines);
  const auto show = [&exchange](Json progress) -> Task<bool> {
    const std::string line = dump_json(progress) + "\n";
    co_return co_await exchange.write(line);
  };
  const Router::PlaceProgress progress = show;
  const Result<Json> placed = co_await router_.place(*model, *wish, progress);
  const Json last = placed ? Json{{"instance", *placed}} : error_json(placed.error());
  (void)co_await exchange.write(dump_json(last) + "\n");
  co_await exchange.end();
}

Task<Result<Json>> Routes::admin_plan(Json body) {
  const Result<std::string> model = json_field<std::string>(body, "model");
  if (!model) co_return std::unexpected(model.error());
  const Result<Wish> wish = wish_from_json(body);
  if (!wish) co_return std::unexpected(wish.error());
  const Result<Placement> placement = co_await instances_.plan(*model, *wish);
  if (!placement) co_return std::unexpected(placement.error());
  co_return to_json(*placement);
}

Json Routes::nodes() const {
  const NodeFacts self = context_.node.facts();
  Json list = Json::array();
  list.push_back({{"id", self.id},
                  {"name", self.name},
                  {"state", "this node"},
                  {"facts", to_json(self)},
                  {"address", context_.node.reachable_address(self.id).value_or("")}});
  for (const auto& peer : context_.node.peers()) {
    Json node = {{"id", peer.id},
                 {"name", peer.name},
                 {"state", std::string(cluster::peer_status_name(peer.status))},
                 {"address", peer.address}};
    if (peer.facts.read_bytes_per_s > 0) node["facts"] = to_json(peer.facts);
    if (peer.link_round_trip_s > 0) {
      node["round_trip_s"] = peer.link_round_trip_s;
      node["link_age_s"] = peer.link_age_s;
    }
    if (peer.link_bytes_per_s > 0) node["bytes_per_s"] = peer.link_bytes_per_s;
    if (!peer.reason.empty()) node["reason"] = peer.reason;
    list.push_back(std::move(node));
  }
  return {{"nodes", std::move(list)}};
}

Json Routes::status() const {
  return {{"id", context_.node.id()},
          {"name", context_.node.facts().name},
          {"home", context_.options.home},
          {"api_address", api_address_},
          {"cluster_port", context_.node.port()},
          {"node_count", context_.node.peers().size() + 1},
          {"link_mode", std::string(link_mode_name(context_.node.link_mode()))}};
}

Task<void> Routes::control(http::Exchange& exchange) {
  const std::string path = exchange.request().path;
  if (path == "/control/generate") {
    co_await router_.serve_remote(exchange);
    co_return;
  }
  if (path.starts_with("/control/files/")) {
    co_await send_file(exchange, path.substr(15));
    co_return;
  }
  const Result<Json> body = body_of(exchange.request());
  if (!body) {
    co_await refuse(exchange, body.error());
    co_return;
  }
  if (path == "/control/cancel") {
    router_.cancel_remote(body->value("id", ""));
    co_await exchange.respond(json_response(Json::object()));
    co_return;
  }
  const std::string verb = path.starts_with("/control/instance/") ? path.substr(18) : "";
  const Result<Json> answer = co_await control_instance(verb, *body);
  if (answer) {
    co_await exchange.respond(json_response(*answer));
  } else {
    co_await refuse(exchange, answer.error());
  }
}

Task<Result<Json>> Routes::control_instance(const std::string& verb, Json body) {
  if (verb == "stop") {
    const Result<std::string> model = json_field<std::string>(body, "model");
    if (!model) co_return std::unexpected(model.error());
    const Status stopped = co_await instances_.stop(*model);
    if (!stopped) co_return std::unexpected(stopped.error());
    co_return Json::object();
  }
  if (verb == "reserve") {
    Result<ShardReservation> reservation = shard_reservation_from_json(body);
    if (!reservation) co_return std::unexpected(reservation.error());
    const Status reserved = shards_.reserve(std::move(*reservation));
    if (!reserved) co_return std::unexpected(reserved.error());
    co_return Json::object();
  }
  const Result<std::string> instance = json_field<std::string>(body, "instance");
  const Result<uint64_t> generation = json_field<uint64_t>(body, "generation");
  if (!instance || !generation)
    co_return std::unexpected(!instance ? instance.error() : generation.error());
  if (verb == "commit") {
    const Status committed = shards_.commit(*instance, *generation);
    if (!committed) co_return std::unexpected(committed.error());
  } else if (verb == "release") {
    shards_.release(*instance, *generation);
  } else {
    co_return fail(ErrorCode::kNotFound,
                   "this node cannot '{}' an instance; are the versions alike?", verb);
  }
  co_return Json::object();
}

Task<void> Routes::send_file(http::Exchange& exchange, std::string sha256) {
  const std::optional<ModelFile> file = context_.store.find_by_sha256(sha256);
  if (!file) {
    const Error error{ErrorCode::kNotFound, "this node has no model with that checksum"};
    co_await refuse(exchange, error);
    co_return;
  }
  if (file->part_count > 1) {
    http::Response list;
    list.headers["Content-Type"] = std::string(kPartListType);
    list.body = context_.store.part_list(*file);
    co_await exchange.respond(std::move(list));
    co_return;
  }
  const auto input = std::make_shared<UniqueFd>(::open(file->path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat facts;
  if (!*input || ::fstat(input->get(), &facts) != 0) {
    co_await refuse(exchange, system_error("cannot read", file->path).error());
    co_return;
  }
  const auto size = static_cast<uint64_t>(facts.st_size);
  const std::optional<FileRange> asked = range_of(exchange.request().headers, size);
  if (asked && asked->begin >= size) {
    http::Response unsatisfiable;
    unsatisfiable.status = 416;
    unsatisfiable.headers["Content-Range"] = fmt::format("bytes */{}", size);
    co_await exchange.respond(std::move(unsatisfiable));
    co_return;
  }
  const FileRange range = asked.value_or(FileRange{0, size});
  http::Headers headers = {{"Content-Type", "application/octet-stream"},
                           {"ETag", '"' + sha256 + '"'},
                           {"Accept-Ranges", "bytes"}};
  if (asked)
    headers["Content-Range"] = fmt::format("bytes {}-{}/{}", range.begin, range.end - 1, size);
  co_await exchange.begin(asked ? 206 : 200, std::move(headers));
  uint64_t at = range.begin;
  while (at < range.end) {
    const auto want = static_cast<size_t>(std::min<uint64_t>(kFileChunk, range.end - at));
    const auto read = [&input, at, want] {
      std::string bytes(want, '\0');
      const ssize_t got = ::pread(input->get(), bytes.data(), want, static_cast<off_t>(at));
      bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
      return bytes;
    };
    const std::string chunk = co_await offload(context_.pool, read);
    if (chunk.empty() || !co_await exchange.write(chunk)) break;
    at += chunk.size();
  }
  co_await exchange.end();
}

}  // namespace shoal::serve
