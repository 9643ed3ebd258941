// Any text as the JSON that nodes and workers send each other: orders of shards, plans, topologies,
// parts of a model, requests, events, measurements. The first byte chooses. What is accepted must
// come back the same when it is written and read again.
#include <cstdint>
#include <cstdlib>

#include "models/model.h"
#include "placement/placement.h"
#include "supervise/protocol.h"
#include "supervise/shard_order.h"

namespace {

using namespace shoal;

void must(bool condition) {
  if (!condition) std::abort();
}

template <auto read, typename AnyJson>
void there_and_back(const AnyJson& json) {
  const auto first = read(json);
  if (!first) {
    must(!first.error().message.empty());
    return;
  }
  const auto written = to_json(*first);
  const auto second = read(AnyJson(written));
  must(second.has_value());
  must(to_json(*second) == written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (*data % 8 == 7) {
    const auto json = parse_ordered_json(text);
    if (json) there_and_back<generate_request_from_json>(*json);
    return 0;
  }
  const auto json = parse_json(text);
  if (!json) return 0;
  switch (*data % 8) {
    case 0:
      there_and_back<shard_order_from_json>(*json);
      break;
    case 1:
      there_and_back<plan_from_json>(*json);
      break;
    case 2:
      there_and_back<topology_from_json>(*json);
      break;
    case 3:
      there_and_back<rank_cut_from_json>(*json);
      break;
    case 4:
      there_and_back<event_from_json>(*json);
      break;
    case 5:
      there_and_back<shard_stats_from_json>(*json);
      break;
    default:
      there_and_back<wish_from_json>(*json);
  }
  return 0;
}
