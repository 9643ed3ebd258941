// The links between ranks that one command starts on this machine, made before the ranks are: each
// gets its ends as descriptors. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "cli/rank_namespaces.h"
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
