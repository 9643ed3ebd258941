// Two ends of a link over loopback, for tests.
#pragma once

#include <gtest/gtest.h>

#include <thread>

#include "transport/emulated.h"
#include "transport/link.h"
#include "transport/shm.h"
#include "transport/verbs_link.h"
#include "verbs_fake.h"

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

struct VerbsEnds {
  Result<std::unique_ptr<Link>> a = nullptr;  // calls the other "rank 1 at b:2"
  Result<std::unique_ptr<Link>> b = nullptr;
};

inline VerbsEnds join_verbs(const VerbsOptions& options_a, const VerbsOptions& options_b) {
  LinkEnds control = join(LinkMode::kTls);
  VerbsEnds ends;
  std::thread other(
      [&] { ends.b = make_verbs_link(std::move(*control.accepted), options_b, in_seconds(20)); });
  ends.a = make_verbs_link(std::move(*control.dialled), options_a, in_seconds(20));
  other.join();
  return ends;
}

enum class LinkKind { kPlain, kTls, kShm, kEmulated, kVerbs };
inline constexpr std::array kLinkKinds = {LinkKind::kPlain, LinkKind::kTls, LinkKind::kShm,
                                          LinkKind::kEmulated, LinkKind::kVerbs};
inline std::string name_of(LinkKind kind) {
  constexpr std::array kNames = {"plain", "tls", "shm", "emulated", "verbs"};
  return kNames.at(static_cast<size_t>(kind));
}
// What a short frame has before its payload.
inline size_t header_bytes(LinkKind kind) {
  return kind == LinkKind::kVerbs ? 16 : 8;
}

struct Linked {
  std::shared_ptr<FakeFabric> fabric;  // of kVerbs: one for all that exist at a time
  std::unique_ptr<Link> a;             // rank 0, which calls the other "rank 1 at b:2"
  std::unique_ptr<Link> b;
};

inline std::shared_ptr<FakeFabric> shared_fabric() {
  static std::weak_ptr<FakeFabric> shared;
  std::shared_ptr<FakeFabric> fabric = shared.lock();
  if (!fabric) shared = fabric = std::make_shared<FakeFabric>();
  return fabric;
}

inline Linked linked_by_verbs() {
  Linked both{.fabric = shared_fabric(), .a = {}, .b = {}};
  VerbsOptions options;
  options.slab_bytes = 16 << 10;
  options.kind = QueuePairKind::kReliable;
  options.api = &both.fabric->api();
  VerbsEnds ends = join_verbs(options, options);
  EXPECT_TRUE(ends.a) << ends.a.error().message;
  EXPECT_TRUE(ends.b) << ends.b.error().message;
  if (ends.a) both.a = std::move(*ends.a);
  if (ends.b) both.b = std::move(*ends.b);
  return both;
}

// Both ends of a link of any kind, the fastest that can be emulated among them.
inline Linked linked(LinkKind kind) {
  if (kind == LinkKind::kVerbs) return linked_by_verbs();
  Linked both;
  if (kind == LinkKind::kPlain || kind == LinkKind::kTls) {
    LinkEnds ends = join(kind == LinkKind::kTls ? LinkMode::kTls : LinkMode::kPlain);
    if (ends.dialled && ends.accepted) {
      both = {{}, std::move(*ends.dialled), std::move(*ends.accepted)};
    }
    return both;
  }
  auto ends = connected_shm_pair("rank 1 at b:2", "rank 0 at a:1");
  EXPECT_TRUE(ends) << ends.error().message;
  if (!ends) return both;
  both = {{}, std::move(ends->first), std::move(ends->second)};
  if (kind == LinkKind::kEmulated) {
    const LinkModel fast = parse_link_model("20,80,5").value();
    both.a = make_emulated_link(std::move(both.a), fast);
    both.b = make_emulated_link(std::move(both.b), fast);
  }
  return both;
}

}  // namespace shoal
