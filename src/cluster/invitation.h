// Pairing: the code that invites one node, and the desk that checks who comes with it. A code holds
// the inviter's addresses, its fingerprint and a 128-bit token; it is good for one node, ten
// minutes and five tries. Pure, on injected time; one thread at a time. docs/formats/invitation.md
// has the layout.
#pragma once

#include <array>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"

namespace shoal::cluster {

struct Invitation {
  std::string inviter;  // node id
  std::array<std::byte, 16> token{};
  std::vector<std::string> addresses;  // "host:port", at most 8
};

// One line of letters and digits that survives being read aloud: upper and lower case alike, o is
// 0, i and l are 1.
std::string encode(const Invitation& invitation);
// White space and hyphens inside are ignored. kInvalidArgument: not a code at all, of another
// version, or mistyped.
Result<Invitation> decode_invitation(std::string_view code);

// Which invitation a joiner means; says nothing of the token.
std::string invitation_id(const Invitation& invitation);

enum class Side { kJoiner, kInviter };
// HMAC-SHA-256 by the token over both fingerprints: that this side holds the token, good between
// these two alone.
std::string pairing_proof(const Invitation& invitation, Side side, const std::string& joiner,
                          const std::string& inviter);

class InvitationDesk {
 public:
  static constexpr std::chrono::minutes kLifetime{10};
  static constexpr int kTries = 5;

  // Makes an invitation with this random token; the oldest goes when more than 8 are open.
  Invitation invite(std::string inviter, std::vector<std::string> addresses,
                    const std::array<std::byte, 16>& token, Clock::time_point now);
  // Checks a joiner and marks the invitation used. The node that used it may repeat the same (its
  // answer was lost). Unknown, expired, used by another, too many tries, wrong proof: kPermission,
  // each with its sentence.
  Result<Invitation> admit(const std::string& id, const std::string& proof,
                           const std::string& joiner, Clock::time_point now);
  // Strangers may try to pair: while one is open, and ten minutes more, so that a late one learns
  // why it is refused.
  bool is_door_open(Clock::time_point now) const;

 private:
  struct Entry {
    Invitation invitation;
    std::string id;
    Clock::time_point expires;
    Clock::time_point forgotten;
    int tries_left = kTries;
    std::string used_by;
  };
  std::deque<Entry> entries_;
};

}  // namespace shoal::cluster
