// Two ends of a link over loopback, for tests.
#pragma once

#include <gtest/gtest.h>

#include <thread>

#include "transport/link.h"

namespace shoal {

inline Deadline in_seconds(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

inline Bytes pattern(size_t size, unsigned seed = 1) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>((i * 131 + i / 251 + seed) & 255);
  return bytes;
}

struct LinkEnds {
  Result<std::unique_ptr<Link>> dialled = nullptr;
  Result<std::unique_ptr<Link>> accepted = nullptr;
};

struct EndSettings {
  LinkMode mode;
  Bytes key;
};

inline LinkEnds join(EndSettings dialling, EndSettings accepting, double seconds = 10) {
  auto sockets = connected_tcp_pair();
  EXPECT_TRUE(sockets) << sockets.error().message;
  LinkEnds ends;
  std::thread other([&] {
    ends.dialled = make_tcp_link(std::move(sockets->first), dialling.mode, true, dialling.key,
                                 "rank 1 at b:2", in_seconds(seconds));
  });
  ends.accepted = make_tcp_link(std::move(sockets->second), accepting.mode, false, accepting.key,
                                "rank 0 at a:1", in_seconds(seconds));
  other.join();
  return ends;
}

inline LinkEnds join(LinkMode mode) {
  const Bytes key = pattern(32);
  LinkEnds ends = join({mode, key}, {mode, key});
  EXPECT_TRUE(ends.dialled) << ends.dialled.error().message;
  EXPECT_TRUE(ends.accepted) << ends.accepted.error().message;
  return ends;
}

}  // namespace shoal
