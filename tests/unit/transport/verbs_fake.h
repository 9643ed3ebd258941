// FakeFabric: the verbs that links use, in memory, for tests: queue pairs that copy from the
// sender's slab into the receiver's, with the rules that a card enforces (states, capacities,
// registered memory) and faults on demand. One fabric at a time in a process, because the library's
// functions carry no pointer of ours. Its functions may be called from several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/verbs_api.h"

namespace shoal {

struct FakeFaults {
  int devices = 1;
  bool active = true;
  bool address = true;  // the port has a GID
  bool channels = true;
  bool gid_types = true;
  bool unreliable = true;  // the card has UC
  uint64_t pinnable_bytes = 1ull << 30;
  int fail_post_send_at = -1;  // the how-manieth send of the fabric is refused
  int fail_send_at = -1;       // the how-manieth completes with an error
  int lose_at = -1;            // the how-manieth vanishes on its way
  bool mute = false;           // everything vanishes on its way
  // May change what arrives; given the whole piece.
  std::function<void(std::span<std::byte>)> tamper;
};

class FakeFabric {
 public:
  FakeFabric();
  ~FakeFabric();  // every endpoint must be gone; objects left over fail the test

  const VerbsApi& api() const { return api_; }
  FakeFaults faults;

  // What has happened so far.
  int sends() const;
  int overruns() const;          // a piece arrived and no receive waited
  int most_outstanding() const;  // requests of one queue pair at once, both directions
  int armed() const;             // how often a signal was asked for

  struct State;
  State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
  VerbsApi api_;
};

}  // namespace shoal
