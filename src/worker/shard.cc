#include "worker/shard.h"

#include <algorithm>
#include <thread>

#include "base/cpu.h"
#include "base/log.h"
#include "base/units.h"
#include "kernels/cpu_backend.h"
#include "transport/emulated.h"
#include "transport/shm.h"
#include "transport/verbs_link.h"

namespace shoal {
namespace {

constexpr std::chrono::seconds kFormTimeout{30};
constexpr std::chrono::seconds kDialTimeout{5};

Result<std::unique_ptr<Link>> dial_rank(const ShardOrder& order, int rank, Deadline deadline) {
  const auto index = static_cast<size_t>(rank);
  Error last{ErrorCode::kUnreachable, fmt::format("rank {} has no known address", rank)};
  do {
    for (const std::string& address : order.addresses[index]) {
      Result<UniqueFd> socket = dial_tcp(address, std::min(deadline, Clock::now() + kDialTimeout));
      if (!socket) {
        last = socket.error();
        continue;
      }
      LinkPreamble preamble{order.instance, order.generation, static_cast<uint16_t>(order.rank),
                            static_cast<uint16_t>(rank)};
      const auto bytes = encode(preamble);
      if (Status sent = send_all(socket->get(), bytes, deadline); !sent) {
        last = sent.error();
        continue;
      }
      auto link = make_tcp_link(std::move(*socket), order.link_mode, true, order.keys[index],
                                fmt::format("rank {} at {}", rank, address), deadline);
      if (link) return link;
      last = link.error();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  } while (Clock::now() < deadline);
  return std::unexpected(last.within(fmt::format("cannot reach rank {}", rank)));
}

Status accept_ranks(const ShardOrder& order, Mailbox<ArrivedLink>& arrived, Deadline deadline,
                    std::vector<std::unique_ptr<Link>>& links) {
  int missing = static_cast<int>(links.size()) - 1 - order.rank;
  while (missing > 0) {
    std::optional<ArrivedLink> link = arrived.take(deadline);
    if (!link) {
      return fail(ErrorCode::kDeadline,
                  "{} of the other ranks did not connect within {} s; are their nodes reachable?",
                  missing, kFormTimeout.count());
    }
    const auto from = static_cast<size_t>(link->from_rank);
    if (link->from_rank <= order.rank || from >= links.size()) continue;  // nobody we wait for
    auto made = make_tcp_link(std::move(link->socket), order.link_mode, false, order.keys[from],
                              fmt::format("rank {}", from), deadline);
    if (!made) {  // it may dial again
      log::warn("a connection that claims to be rank {} failed: {}", from, made.error().message);
      continue;
    }
    if (!links[from]) --missing;
    links[from] = std::move(*made);
  }
  return {};
}

// One end of a link, as far as its descriptors have come.
struct GivenLink {
  UniqueFd socket;
  UniqueFd memory;
};

Result<std::unique_ptr<Link>> make_given_link(const ShardOrder& order, int rank, GivenLink given,
                                              Deadline deadline) {
  const std::string peer = fmt::format("rank {}", rank);
  const bool higher = order.rank > rank;
  if (given.memory) {
    return make_shm_link(
        {.memory = std::move(given.memory), .socket = std::move(given.socket), .first = !higher},
        peer);
  }
  return make_tcp_link(std::move(given.socket), order.link_mode, higher,
                       order.keys[static_cast<size_t>(rank)], peer, deadline);
}

// Links are made in the order of the pairs (0, 1), (0, 2), ..., (1, 2), ..., as a handshake takes
// both ends.
Status take_given_links(const ShardOrder& order, Mailbox<ArrivedLink>& arrived, Deadline deadline,
                        std::vector<std::unique_ptr<Link>>& links) {
  std::vector<GivenLink> given(links.size());
  const auto missing = [&] {
    return std::ranges::count_if(given, [](const GivenLink& one) { return !one.socket; }) > 1;
  };
  while (missing()) {
    std::optional<ArrivedLink> link = arrived.take(deadline);
    if (!link) return fail(ErrorCode::kDeadline, "the links to the other ranks were not given");
    const auto from = static_cast<size_t>(link->from_rank);
    if (link->from_rank < 0 || link->from_rank == order.rank || from >= links.size()) continue;
    (link->is_memory ? given[from].memory : given[from].socket) = std::move(link->socket);
  }
  for (size_t rank = 0; rank < links.size(); ++rank) {
    if (static_cast<int>(rank) == order.rank) continue;
    SHOAL_ASSIGN(links[rank],
                 make_given_link(order, static_cast<int>(rank), std::move(given[rank]), deadline));
  }
  return {};
}

// In rank order, as both ends of a pair shake hands.
Status use_verbs(std::vector<std::unique_ptr<Link>>& links, Deadline deadline) {
  for (auto& link : links) {
    if (!link) continue;
    SHOAL_ASSIGN(link, make_verbs_link(std::move(link), {}, deadline));
  }
  return {};
}

Status emulate(const std::string& name, std::vector<std::unique_ptr<Link>>& links) {
  if (name.empty()) return {};
  SHOAL_ASSIGN(const LinkModel model, parse_link_model(name));
  for (auto& link : links) {
    if (link) link = make_emulated_link(std::move(link), model);
  }
  return {};
}

// VmHWM of this process.
uint64_t resident_peak_bytes() {
  const Result<std::string> status = read_file("/proc/self/status");
  if (!status) return 0;
  const size_t at = status->find("VmHWM:");
  return at == std::string::npos ? 0 : std::strtoull(status->c_str() + at + 6, nullptr, 10) * 1024;
}

}  // namespace

EngineOptions engine_options(const Plan& plan, int64_t page_tokens) {
  EngineOptions options;
  options.max_rows = kStepRows;
  options.least_part_rows = kPartRows;
  options.max_positions = plan.context;
  options.kv_type = plan.kv_type;
  options.payload = plan.payload;
  options.kv_pages = plan.sequences * ((plan.context + page_tokens - 1) / page_tokens);
  options.sequences = plan.sequences;
  return options;
}

Result<Group> form_group(const ShardOrder& order, Mailbox<ArrivedLink>& arrived,
                         Deadline deadline) {
  std::vector<std::unique_ptr<Link>> links(order.plan.ranks.size());
  if (order.links_given) {
    SHOAL_TRY(take_given_links(order, arrived, deadline, links));
  } else {
    for (int rank = 0; rank < order.rank; ++rank) {
      SHOAL_ASSIGN(links[static_cast<size_t>(rank)], dial_rank(order, rank, deadline));
    }
    SHOAL_TRY(accept_ranks(order, arrived, deadline, links));
  }
  if (order.verbs) SHOAL_TRY(use_verbs(links, deadline));
  SHOAL_TRY(emulate(order.emulated, links));
  Group group(order.rank, std::move(links));
  const Plan& plan = order.plan;
  if (!plan.stage_links.empty()) {
    const int stage = plan.ranks[static_cast<size_t>(order.rank)].stage;
    group.set_link_cost(plan.stage_links[static_cast<size_t>(stage)]);
  }

  Bytes digest(32);
  SHOAL_ASSIGN(digest, from_hex(sha256_of_plan(plan)));
  std::vector<Bytes> digests;
  SHOAL_TRY(group.all_gather(digest, digests, deadline));
  for (size_t rank = 0; rank < digests.size(); ++rank) {
    if (digests[rank] != digest) {
      return fail(ErrorCode::kConflict, "rank {} was ordered a different plan than rank {}", rank,
                  order.rank);
    }
  }
  return group;
}

Result<Shard> open_shard(const ShardOrder& order) {
  SHOAL_ASSIGN(const Isa isa, choose_isa(order.isa));
  Shard shard;
  SHOAL_ASSIGN(shard.file, gguf::File::open(order.model_path));
  SHOAL_ASSIGN(shard.description, describe(shard.file));
  shard.backend = make_cpu_backend(isa, order.threads);
  return shard;
}

Status form_shard(Shard& shard, const ShardOrder& order, Mailbox<ArrivedLink>& arrived,
                  Channel& daemon) {
  SHOAL_ASSIGN(Group group, form_group(order, arrived, Clock::now() + kFormTimeout));

  const Plan& plan = order.plan;
  const EngineOptions options = engine_options(plan, shard.backend->page_tokens());
  auto last_report = Clock::now() - std::chrono::seconds(1);
  const auto progress = [&](uint64_t done, uint64_t all) {
    if (Clock::now() - last_report < std::chrono::milliseconds(100) && done < all) return;
    last_report = Clock::now();
    (void)daemon.send(
        {{"type", "progress"}, {"phase", "loading"}, {"done_bytes", done}, {"total_bytes", all}});
  };
  SHOAL_ASSIGN(shard.engine, Engine::create(shard.file, shard.description,
                                            plan.ranks[static_cast<size_t>(order.rank)].cut,
                                            *shard.backend, std::move(group), options, progress));
  return {};
}

ShardStats shard_stats(const Shard& shard) {
  const Engine::Totals totals = shard.engine->totals();
  const BackendMemory memory = shard.engine->memory();
  ShardStats stats;
  stats.steps = totals.steps;
  stats.decode_steps = totals.decode_steps;
  stats.decode_compute_s = totals.decode_compute_s;
  stats.decode_wait_s = totals.decode_wait_s;
  stats.decode_bytes_sent = totals.decode_bytes_sent;
  stats.compute_s = totals.compute_s;
  stats.wait_s = totals.wait_s;
  stats.bytes_sent = totals.links.bytes_sent;
  stats.bytes_received = totals.links.bytes_received;
  stats.weight_bytes = memory.weight_bytes;
  stats.kv_bytes = memory.kv_bytes;
  stats.activation_bytes = memory.activation_bytes;
  stats.resident_peak_bytes = resident_peak_bytes();
  stats.backend = shard.backend->name();
  return stats;
}

}  // namespace shoal
