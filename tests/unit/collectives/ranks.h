// Ranks in threads over loopback, for tests.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "collectives/group.h"
#include "transport/shm.h"

namespace shoal {

inline Deadline in_seconds(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// The links of every rank of a group: links[rank][other].
using LinkTable = std::vector<std::vector<std::unique_ptr<Link>>>;

inline LinkTable link_up(int ranks, LinkMode mode) {
  LinkTable links(static_cast<size_t>(ranks));
  for (auto& row : links) row.resize(static_cast<size_t>(ranks));
  const Bytes key(32, std::byte{42});
  for (int a = 0; a < ranks; ++a) {
    for (int b = a + 1; b < ranks; ++b) {
      auto sockets = connected_tcp_pair();
      EXPECT_TRUE(sockets) << sockets.error().message;
      std::thread dialler([&] {
        auto link = make_tcp_link(std::move(sockets->first), mode, true, key,
                                  fmt::format("rank {}", b), in_seconds(30));
        if (link) links[a][b] = std::move(*link);
      });
      auto link = make_tcp_link(std::move(sockets->second), mode, false, key,
                                fmt::format("rank {}", a), in_seconds(30));
      dialler.join();
      EXPECT_TRUE(link && links[a][b]);
      links[b][a] = std::move(*link);
    }
  }
  return links;
}

inline std::vector<Group> make_groups(int ranks, LinkMode mode) {
  LinkTable links = link_up(ranks, mode);
  std::vector<Group> groups;
  for (int r = 0; r < ranks; ++r) groups.emplace_back(r, std::move(links[static_cast<size_t>(r)]));
  return groups;
}

// The same through shared memory, in small rings, so that frames wrap and wait.
inline std::vector<Group> make_shm_groups(int ranks) {
  constexpr size_t kRingBytes = 64 << 10;
  const auto count = static_cast<size_t>(ranks);
  LinkTable links(count);
  for (auto& row : links) row.resize(count);
  for (size_t a = 0; a < count; ++a) {
    for (size_t b = a + 1; b < count; ++b) {
      auto pair =
          connected_shm_pair(fmt::format("rank {}", b), fmt::format("rank {}", a), kRingBytes);
      EXPECT_TRUE(pair) << pair.error().message;
      links[a][b] = std::move(pair->first);
      links[b][a] = std::move(pair->second);
    }
  }
  std::vector<Group> groups;
  for (size_t r = 0; r < count; ++r) groups.emplace_back(static_cast<int>(r), std::move(links[r]));
  return groups;
}

// Runs body(group) for every rank at once.
inline void on_every_rank(std::vector<Group>& groups, const std::function<void(Group&)>& body) {
  std::vector<std::thread> threads;
  for (Group& group : groups) threads.emplace_back([&] { body(group); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace shoal
