#include "cluster/invitation.h"

#include <algorithm>
#include <cctype>

namespace shoal::cluster {
namespace {

// Crockford's alphabet: no i, l, o, u.
constexpr std::string_view kAlphabet = "0123456789abcdefghjkmnpqrstvwxyz";
constexpr std::string_view kPrefix = "shoal";
constexpr std::byte kVersion{1};
constexpr size_t kFingerprintBytes = 32;
constexpr size_t kTokenBytes = 16;
constexpr size_t kChecksumBytes = 4;
constexpr size_t kMostAddresses = 8;
constexpr size_t kLongestAddress = 255;
constexpr size_t kLongestCode = 8192;
constexpr size_t kMostOpen = 8;
constexpr auto kRemembered = std::chrono::minutes(10);

std::string to_base32(std::span<const std::byte> bytes) {
  std::string text;
  unsigned held = 0;
  int bits = 0;
  for (const std::byte byte : bytes) {
    held = (held << 8) | std::to_integer<unsigned>(byte);
    for (bits += 8; bits >= 5; bits -= 5) text += kAlphabet[held >> (bits - 5) & 31];
  }
  if (bits > 0) text += kAlphabet[held << (5 - bits) & 31];
  return text;
}

int digit_of(char letter) {
  char c = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  if (c == 'o') c = '0';
  if (c == 'i' || c == 'l') c = '1';
  const size_t at = kAlphabet.find(c);
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

Result<Bytes> from_base32(std::string_view text) {
  Bytes bytes;
  unsigned held = 0;
  int bits = 0;
  for (const char letter : text) {
    const int digit = digit_of(letter);
    if (digit < 0) {
      return fail(ErrorCode::kInvalidArgument,
                  "the invitation code holds '{}', which no code has; copy it whole",
                  std::isprint(static_cast<unsigned char>(letter)) ? std::string(1, letter)
                                                                   : "a strange character");
    }
    held = (held << 5) | static_cast<unsigned>(digit);
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push_back(static_cast<std::byte>(held >> bits & 255));
    }
  }
  return bytes;
}

Bytes checksum_of(std::span<const std::byte> bytes) {
  Bytes digest = *from_hex(sha256(as_text(bytes)));
  digest.resize(kChecksumBytes);
  return digest;
}

std::string without_separators(std::string_view code) {
  std::string text;
  for (const char c : code) {
    if (c != '-' && std::isspace(static_cast<unsigned char>(c)) == 0) text += c;
  }
  return text;
}

// Takes bytes off the front.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : left_(bytes) {}
  Result<std::span<const std::byte>> take(size_t count) {
    if (left_.size() < count)
      return fail(ErrorCode::kInvalidArgument, "the invitation code ends too early; copy it whole");
    const auto taken = left_.first(count);
    left_ = left_.subspan(count);
    return taken;
  }
  bool empty() const { return left_.empty(); }

 private:
  std::span<const std::byte> left_;
};

Result<Invitation> parse_body(std::span<const std::byte> body) {
  Reader reader(body);
  Invitation invitation;
  SHOAL_ASSIGN(const auto token, reader.take(kTokenBytes));
  std::ranges::copy(token, invitation.token.begin());
  SHOAL_ASSIGN(const auto fingerprint, reader.take(kFingerprintBytes));
  invitation.inviter = to_hex(fingerprint);
  SHOAL_ASSIGN(const auto count, reader.take(1));
  for (size_t i = 0; i < std::to_integer<size_t>(count[0]); ++i) {
    SHOAL_ASSIGN(const auto length, reader.take(1));
    SHOAL_ASSIGN(const auto address, reader.take(std::to_integer<size_t>(length[0])));
    invitation.addresses.emplace_back(as_text(address));
  }
  if (invitation.addresses.empty() || invitation.addresses.size() > kMostAddresses ||
      !reader.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "the invitation code contradicts itself; ask for a new one");
  }
  return invitation;
}

}  // namespace

std::string encode(const Invitation& invitation) {
  Bytes bytes = {kVersion};
  const auto put = [&](std::span<const std::byte> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
  };
  put(invitation.token);
  const auto fingerprint = from_hex(invitation.inviter);
  SHOAL_CHECK(fingerprint && fingerprint->size() == kFingerprintBytes);
  put(*fingerprint);
  std::vector<std::string> addresses;
  for (const std::string& address : invitation.addresses) {
    if (address.size() <= kLongestAddress && addresses.size() < kMostAddresses)
      addresses.push_back(address);
  }
  bytes.push_back(static_cast<std::byte>(addresses.size()));
  for (const std::string& address : addresses) {
    bytes.push_back(static_cast<std::byte>(address.size()));
    put(as_bytes(address));
  }
  put(checksum_of(bytes));
  return std::string(kPrefix) + "-" + to_base32(bytes);
}

Result<Invitation> decode_invitation(std::string_view code) {
  if (code.size() > kLongestCode) {
    return fail(ErrorCode::kInvalidArgument, "this is {} characters long and no invitation code",
                code.size());
  }
  const std::string text = without_separators(code);
  const auto prefix_matches = [&] {
    return text.size() > kPrefix.size() &&
           std::ranges::equal(
               std::string_view(text).substr(0, kPrefix.size()), kPrefix,
               [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
  };
  if (!prefix_matches()) {
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is not an invitation code: one begins with '{}-' and is made by `shoal "
                "cluster invite`",
                std::string_view(text).substr(0, 24), kPrefix);
  }
  SHOAL_ASSIGN(const Bytes bytes, from_base32(std::string_view(text).substr(kPrefix.size())));
  if (bytes.size() < 1 + kTokenBytes + kFingerprintBytes + 1 + kChecksumBytes) {
    return fail(ErrorCode::kInvalidArgument, "the invitation code is too short; copy it whole");
  }
  const std::span<const std::byte> all(bytes);
  const auto body = all.first(bytes.size() - kChecksumBytes);
  if (!std::ranges::equal(checksum_of(body), all.last(kChecksumBytes))) {
    return fail(ErrorCode::kInvalidArgument,
                "the invitation code is mistyped or incomplete: its checksum does not match");
  }
  if (body[0] != kVersion) {
    return fail(ErrorCode::kUnsupported,
                "the invitation code has format {}, this Shoal knows {}; run the same version on "
                "both nodes",
                std::to_integer<int>(body[0]), std::to_integer<int>(kVersion));
  }
  return parse_body(body.subspan(1));
}

std::string invitation_id(const Invitation& invitation) {
  return sha256("shoal invitation " + to_hex(invitation.token)).substr(0, 16);
}

std::string pairing_proof(const Invitation& invitation, Side side, const std::string& joiner,
                          const std::string& inviter) {
  const std::string message = fmt::format(
      "shoal pairing {} {} {}", side == Side::kJoiner ? "joiner" : "inviter", joiner, inviter);
  return to_hex(hmac_sha256(invitation.token, as_bytes(message)));
}

Invitation InvitationDesk::invite(std::string inviter, std::vector<std::string> addresses,
                                  const std::array<std::byte, 16>& token, Clock::time_point now) {
  std::erase_if(entries_, [&](const Entry& entry) { return now >= entry.forgotten; });
  if (entries_.size() >= kMostOpen) entries_.pop_front();
  Entry entry;
  entry.invitation = {std::move(inviter), token, std::move(addresses)};
  entry.id = invitation_id(entry.invitation);
  entry.expires = now + kLifetime;
  entry.forgotten = entry.expires + kRemembered;
  entries_.push_back(entry);
  return entry.invitation;
}

Result<Invitation> InvitationDesk::admit(const std::string& id, const std::string& proof,
                                         const std::string& joiner, Clock::time_point now) {
  const auto found =
      std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.id == id; });
  if (found == entries_.end() || now >= found->forgotten) {
    return fail(ErrorCode::kPermission,
                "this node does not know the invitation: it is long over, or the daemon was "
                "restarted since; run "
                "`shoal cluster invite` again");
  }
  if (found->tries_left <= 0) {
    return fail(ErrorCode::kPermission,
                "the invitation was closed after {} wrong tries: somebody may be guessing; run "
                "`shoal cluster invite` again",
                kTries);
  }
  const std::string expected =
      pairing_proof(found->invitation, Side::kJoiner, joiner, found->invitation.inviter);
  const bool proven = equal_in_constant_time(as_bytes(proof), as_bytes(expected));
  if (!proven) {
    --found->tries_left;
    return fail(ErrorCode::kPermission,
                "the invitation's token is wrong ({} tries left); copy the code again",
                found->tries_left);
  }
  if (!found->used_by.empty() && found->used_by != joiner) {
    return fail(ErrorCode::kPermission,
                "the invitation was used already, by node {}; each is good for one node: run "
                "`shoal cluster invite` again",
                found->used_by.substr(0, 8));
  }
  if (now >= found->expires) {
    return fail(
        ErrorCode::kPermission,
        "the invitation has expired: it was good for {} minutes; run `shoal cluster invite` again",
        kLifetime.count());
  }
  found->used_by = joiner;
  found->forgotten = std::min(found->forgotten, now + kRemembered);
  return found->invitation;
}

bool InvitationDesk::is_door_open(Clock::time_point now) const {
  return std::ranges::any_of(entries_, [&](const Entry& entry) { return now < entry.forgotten; });
}

}  // namespace shoal::cluster
