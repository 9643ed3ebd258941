// The links between ranks that one command starts on this machine, made before the ranks are: each
// gets its ends as descriptors. Any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "transport/link.h"

namespace shoal::cli {

// What was asked for: "shm", "tcp" (with TLS), "plain" (TCP without), "verbs", "emulated:NAME"
// (over shared memory).
struct LinkChoice {
  enum class Kind { kShm, kTcp, kVerbs };
  Kind kind = Kind::kShm;
  LinkMode mode = LinkMode::kPlain;
  std::string emulated;  // a link model, or empty
  std::string text;      // as it was asked for
};
Result<LinkChoice> parse_link_choice(std::string_view text);

// Network namespaces of this process's own, one per rank, on one Ethernet bridge; gone with it.
// Needs root and the `ip` command, and `tc` for a rate.
class NetworkNamespaces {
 public:
  // `rate`: what each end may send, as tc writes it ("1gbit"); empty: all it can.
  static Result<std::unique_ptr<NetworkNamespaces>> create(int count, const std::string& rate);
  ~NetworkNamespaces();
  int descriptor(int rank) const { return spaces_[static_cast<size_t>(rank)].get(); }
  std::string address(int rank) const;

 private:
  NetworkNamespaces() = default;
  Status add(int rank, const std::string& rate);

  std::string prefix_;  // of the names, which are for the length of this process
  std::vector<std::string> names_;
  std::vector<UniqueFd> spaces_;
};

// One rank's end of a link.
struct LinkEnd {
  UniqueFd socket;
  UniqueFd memory;  // of shared memory, beside its socket
};
// ends[a][b]: a's end of the link between a and b. TCP connections are made in the ranks' network
// namespaces where there are any, else over loopback.
Result<std::vector<std::vector<LinkEnd>>> make_link_ends(int ranks, const LinkChoice& choice,
                                                         const NetworkNamespaces* spaces);

}  // namespace shoal::cli
