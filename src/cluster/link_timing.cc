#include "cluster/link_timing.h"

#include <algorithm>

#include "base/json.h"

namespace shoal::cluster {
namespace {

constexpr int64_t kWarmUps = 3;
constexpr int64_t kLeastRounds = 5;
constexpr int64_t kMostRounds = 5000;
constexpr std::chrono::seconds kOneFrame{60};

// What the following end is told before each series of frames.
struct Order {
  bool there_and_back = false;  // else both ways at once
  uint64_t bytes = 0;
  int64_t rounds = 0;
};

Status send_order(Link& link, const Order& order, Deadline deadline) {
  const std::string text = dump_json(Json{
      {"there_and_back", order.there_and_back}, {"bytes", order.bytes}, {"rounds", order.rounds}});
  return link.send(as_bytes(text), deadline);
}

Result<Order> order_of(const Bytes& frame, uint64_t most_bytes) {
  constexpr size_t kLongestOrder = 256;
  if (frame.size() > kLongestOrder)
    return fail(ErrorCode::kCorrupt, "an order of {} bytes", frame.size());
  SHOAL_ASSIGN(const Json json, parse_json(as_text(frame)));
  Order order;
  SHOAL_ASSIGN(order.there_and_back, json_field<bool>(json, "there_and_back"));
  SHOAL_ASSIGN(order.bytes, json_field<uint64_t>(json, "bytes"));
  SHOAL_ASSIGN(order.rounds, json_field<int64_t>(json, "rounds"));
  if (order.bytes < 1 || order.bytes > most_bytes || order.rounds < 1 ||
      order.rounds > kMostRounds) {
    return fail(ErrorCode::kTooLarge, "{} frames of {} bytes", order.rounds, order.bytes);
  }
  return order;
}

Result<double> one_round(Link& link, const Order& order, const Bytes& out, Bytes& in,
                         std::chrono::seconds patience) {
  const auto start = Clock::now();
  if (order.there_and_back) {
    SHOAL_TRY(link.send(out, start + patience));
    SHOAL_TRY(link.receive(in, start + patience));
  } else {
    SHOAL_TRY(link.exchange(out, in, start + patience));
  }
  return seconds_since(start);
}

Result<std::vector<double>> run_order(Link& link, const Order& order,
                                      const TimingPatience& patience) {
  SHOAL_TRY(send_order(link, order, Clock::now() + patience.one_frame));
  const Bytes out(order.bytes, std::byte{2});
  Bytes in(order.bytes);
  std::vector<double> times_s;
  for (int64_t round = 0; round < order.rounds; ++round) {
    SHOAL_ASSIGN(const double time_s, one_round(link, order, out, in, patience.one_frame));
    times_s.push_back(time_s);
  }
  return times_s;
}

Result<FrameTimes> time_frames(Link& link, bool there_and_back, uint64_t bytes,
                               const TimingPatience& patience) {
  Order order{.there_and_back = there_and_back, .bytes = bytes, .rounds = kWarmUps};
  SHOAL_ASSIGN(const std::vector<double> warm_ups, run_order(link, order, patience));
  const double fastest_s = std::max(1e-7, std::ranges::min(warm_ups));
  const auto fitting = static_cast<int64_t>(std::min(1e9, patience.seconds / fastest_s));
  order.rounds = std::clamp(fitting, kLeastRounds, kMostRounds);
  SHOAL_ASSIGN(std::vector<double> times_s, run_order(link, order, patience));
  double total_s = 0;
  for (const double time_s : times_s) total_s += time_s;
  std::ranges::sort(times_s);
  const size_t rounds = times_s.size();
  return FrameTimes{.bytes = bytes,
                    .p50_s = times_s[rounds / 2],
                    .p99_s = times_s[rounds * 99 / 100],
                    .bytes_per_s = static_cast<double>(bytes * rounds) / total_s};
}

}  // namespace

Result<FrameTimes> time_round_trips(Link& link, uint64_t bytes, const TimingPatience& patience) {
  return time_frames(link, true, bytes, patience);
}

Result<FrameTimes> time_exchanges(Link& link, uint64_t bytes, const TimingPatience& patience) {
  return time_frames(link, false, bytes, patience);
}

Result<LinkTimes> time_link(Link& link, const std::vector<uint64_t>& sizes,
                            const TimingPatience& patience) {
  LinkTimes times;
  SHOAL_ASSIGN(times.round_trip, time_round_trips(link, kSmallFrameBytes, patience));
  for (const uint64_t bytes : sizes) {
    SHOAL_ASSIGN(const FrameTimes one, time_exchanges(link, bytes, patience));
    times.exchanges.push_back(one);
  }
  return times;
}

void follow_timing(Link& link, uint64_t most_bytes, Deadline end) {
  Bytes frame;
  Bytes out;
  Bytes in;
  while (link.receive(frame, end)) {
    const Result<Order> order = order_of(frame, most_bytes);
    if (!order) return;
    out.assign(order->bytes, std::byte{1});
    in.resize(order->bytes);
    for (int64_t round = 0; round < order->rounds; ++round) {
      const Deadline soon = std::min<Deadline>(end, Clock::now() + kOneFrame);
      const bool done = order->there_and_back ? link.receive(in, soon) && link.send(in, soon)
                                              : link.exchange(out, in, soon).has_value();
      if (!done) return;
    }
  }
}

}  // namespace shoal::cluster
