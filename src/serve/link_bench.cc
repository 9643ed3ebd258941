#include "serve/link_bench.h"

#include "cluster/link_probe.h"
#include "serve/answers.h"

namespace shoal::serve {
namespace {

constexpr size_t kMostSizes = 16;
constexpr double kMostSeconds = 10;

struct LinkBenchWish {
  std::vector<uint64_t> sizes;
  std::vector<LinkMode> modes;
  double seconds = 0;
  std::vector<cluster::PeerView> peers;
};

Result<std::vector<uint64_t>> sizes_of(const Json& body) {
  SHOAL_ASSIGN(const Json list, json_field<Json>(body, "sizes"));
  if (!list.is_array() || list.empty() || list.size() > kMostSizes) {
    return fail(ErrorCode::kInvalidArgument, "1 to {} sizes of frames can be measured", kMostSizes);
  }
  std::vector<uint64_t> sizes;
  for (const Json& size : list) {
    if (!size.is_number_unsigned() || size < 1 || size > cluster::kMostTimedBytes) {
      return fail(ErrorCode::kInvalidArgument,
                  "a frame of {} bytes cannot be measured between nodes; 1 to {} are possible",
                  dump_json(size).substr(0, 64), cluster::kMostTimedBytes);
    }
    sizes.push_back(size.get<uint64_t>());
  }
  return sizes;
}

Result<std::vector<LinkMode>> modes_of(const Json& body) {
  SHOAL_ASSIGN(const Json list, json_field<Json>(body, "modes"));
  if (!list.is_array() || list.empty() || list.size() > 2)
    return fail(ErrorCode::kInvalidArgument, "the field 'modes' must be a list of tls and plain");
  std::vector<LinkMode> modes;
  for (const Json& mode : list) {
    if (!mode.is_string()) return fail(ErrorCode::kInvalidArgument, "a mode is tls or plain");
    SHOAL_ASSIGN(const LinkMode known, link_mode_named(mode.get<std::string>()));
    modes.push_back(known);
  }
  return modes;
}

Result<LinkBenchWish> wish_of(const Context& context, const Json& body) {
  LinkBenchWish wish;
  SHOAL_ASSIGN(wish.sizes, sizes_of(body));
  SHOAL_ASSIGN(wish.modes, modes_of(body));
  SHOAL_ASSIGN(wish.seconds, json_field<double>(body, "seconds"));
  if (!(wish.seconds > 0 && wish.seconds <= kMostSeconds)) {
    return fail(ErrorCode::kInvalidArgument, "a size is measured for up to {} s, not {}",
                kMostSeconds, wish.seconds);
  }
  SHOAL_ASSIGN(const std::string who, json_field_or<std::string>(body, "node", ""));
  if (who.empty()) {
    wish.peers = context.node.peers();
    return wish;
  }
  SHOAL_ASSIGN(cluster::PeerView peer, context.node.find_peer(who));
  wish.peers.push_back(std::move(peer));
  return wish;
}

Json times_json(const cluster::LinkTimes& times) {
  Json exchanges = Json::array();
  for (const cluster::FrameTimes& one : times.exchanges) {
    exchanges.push_back({{"bytes", one.bytes},
                         {"exchange_p50_s", one.p50_s},
                         {"exchange_p99_s", one.p99_s},
                         {"bytes_per_s", one.bytes_per_s}});
  }
  return {{"round_trip_bytes", times.round_trip.bytes},
          {"round_trip_p50_s", times.round_trip.p50_s},
          {"round_trip_p99_s", times.round_trip.p99_s},
          {"exchanges", std::move(exchanges)}};
}

}  // namespace

Task<void> bench_links(Context& context, http::Exchange& exchange, Json body) {
  const Result<LinkBenchWish> wish = wish_of(context, body);
  if (!wish) {
    co_await refuse(exchange, wish.error());
    co_return;
  }
  co_await exchange.begin(200, kJsonLines);
  for (const cluster::PeerView& peer : wish->peers) {
    for (const LinkMode mode : wish->modes) {
      const std::string mode_name(link_mode_name(mode));
      const Json phase = {{"phase", fmt::format("link to {}, {}", peer.name, mode_name)}};
      if (!co_await exchange.write(dump_json(phase) + "\n")) co_return;
      Json line = {{"node", peer.name}, {"id", peer.id}, {"mode", mode_name}};
      if (peer.status == cluster::PeerStatus::kAlive) {
        const Result<cluster::LinkTimes> times =
            co_await context.node.time_link(peer.id, mode, wish->sizes, wish->seconds);
        line.update(times ? times_json(*times) : Json{{"refused", times.error().message}});
      } else {
        line["refused"] = peer.status == cluster::PeerStatus::kNever
                              ? fmt::format("{} has not answered yet", peer.name)
                              : fmt::format("{} is {}", peer.name, peer_status_name(peer.status));
      }
      if (!co_await exchange.write(dump_json(line) + "\n")) co_return;
    }
  }
  co_await exchange.end();
}

}  // namespace shoal::serve
