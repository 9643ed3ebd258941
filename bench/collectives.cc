// All-reduce between ranks that are threads of this process, linked over loopback, through shared
// memory, or as if by another link. Medians of each call's time on rank 0; `bytes` are those of the
// numbers as f32, whatever they travel as.
//   bench_collectives [RANKS] [plain|tls|shm|emulated:LINK] [f32|bf16|int8] [direct|scatter|cost]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/cpu.h"
#include "collectives/group.h"
#include "transport/emulated.h"
#include "transport/shm.h"

using namespace shoal;  // NOLINT(google-build-using-namespace): a main

namespace {

constexpr int kWarmups = 50;

[[noreturn]] void stop(const Error& error) {
  std::fprintf(stderr, "%s\n", error.message.c_str());
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) stop(result.error());
  return std::move(*result);
}

Deadline soon() {
  return Clock::now() + std::chrono::seconds(30);
}

struct Ends {
  std::unique_ptr<Link> first;
  std::unique_ptr<Link> second;
};

Ends tcp_ends(LinkMode mode) {
  const Bytes key = random_bytes(32);
  auto sockets = must(connected_tcp_pair());
  Ends ends;
  std::thread dialler([&] {
    ends.first = must(make_tcp_link(std::move(sockets.first), mode, true, key, "b", soon()));
  });
  ends.second = must(make_tcp_link(std::move(sockets.second), mode, false, key, "a", soon()));
  dialler.join();
  return ends;
}

Ends link_ends(std::string_view kind) {
  constexpr std::string_view kEmulated = "emulated:";
  const bool emulated = kind.starts_with(kEmulated);
  if (kind != "shm" && !emulated) return tcp_ends(must(link_mode_named(kind)));
  auto shm = must(connected_shm_pair("b", "a"));
  if (!emulated) return {std::move(shm.first), std::move(shm.second)};
  const LinkModel model = must(parse_link_model(kind.substr(kEmulated.size())));
  return {make_emulated_link(std::move(shm.first), model),
          make_emulated_link(std::move(shm.second), model)};
}

std::vector<Group> link_up(size_t ranks, std::string_view kind) {
  std::vector<std::vector<std::unique_ptr<Link>>> links(ranks);
  for (auto& row : links) row.resize(ranks);
  for (size_t a = 0; a < ranks; ++a) {
    for (size_t b = a + 1; b < ranks; ++b) {
      Ends ends = link_ends(kind);
      links[a][b] = std::move(ends.first);
      links[b][a] = std::move(ends.second);
    }
  }
  std::vector<Group> groups;
  for (size_t r = 0; r < ranks; ++r) groups.emplace_back(static_cast<int>(r), std::move(links[r]));
  return groups;
}

ReduceRoute route_named(std::string_view name) {
  if (name == "direct") return ReduceRoute::kDirect;
  return name == "scatter" ? ReduceRoute::kScatter : ReduceRoute::kByCost;
}

void run_rank(Group& group, size_t bytes, int rounds, std::vector<double>& times_us) {
  std::vector<float> values(bytes / sizeof(float));
  for (int i = 0; i < kWarmups + rounds; ++i) {
    std::ranges::fill(values, 1.5f);  // sums of sums would leave the numbers that are
    const auto start = Clock::now();
    if (auto done = group.all_reduce(values, soon()); !done) stop(done.error());
    if (i >= kWarmups && group.rank() == 0) times_us.push_back(seconds_since(start) * 1e6);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const size_t ranks = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 2;
  const std::string_view kind = argc > 2 ? argv[2] : "plain";
  const Payload payload = must(payload_named(argc > 3 ? argv[3] : "f32"));
  const std::string_view route = argc > 4 ? argv[4] : "cost";
  if (ranks < 2 || ranks > 64) {
    std::fprintf(stderr, "RANKS is 2 to 64\n");
    return 2;
  }
  std::vector<Group> groups = link_up(ranks, kind);
  const std::vector<int> cores = usable_cores();
  for (Group& group : groups) {
    group.set_payload(payload);
    group.set_reduce_route(route_named(route));
  }
  std::printf("%zu ranks, %s, %s, %s, %zu cores\n%10s %10s %10s\n", ranks, kind.data(),
              payload_name(payload).data(), route.data(), cores.size(), "bytes", "p50_us",
              "p99_us");
  for (size_t bytes = 2 << 10; bytes <= 1 << 20; bytes *= 2) {
    std::vector<double> times_us;
    std::vector<std::thread> threads;
    for (Group& group : groups) {
      threads.emplace_back([&] {
        (void)pin_this_thread(cores[static_cast<size_t>(group.rank()) % cores.size()]);
        run_rank(group, bytes, bytes > 100'000 ? 300 : 2000, times_us);
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::ranges::sort(times_us);
    std::printf("%10zu %10.1f %10.1f\n", bytes, times_us[times_us.size() / 2],
                times_us[times_us.size() * 99 / 100]);
  }
  return 0;
}
