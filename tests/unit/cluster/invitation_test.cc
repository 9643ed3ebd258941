#include "cluster/invitation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::cluster {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using testing::HasSubstr;

const std::string kInviter(64, 'a');
const std::string kJoiner(64, 'b');
const Clock::time_point kStart{std::chrono::hours(5)};

std::array<std::byte, 16> token(int value) {
  std::array<std::byte, 16> bytes{};
  bytes[0] = static_cast<std::byte>(value);
  return bytes;
}

TEST(Invitation, SurvivesItsCode) {
  const Invitation invitation{
      kInviter, token(7), {"192.168.1.20:7466", "[fd00::7]:7466", "nas.local:7466"}};
  const std::string code = encode(invitation);
  EXPECT_THAT(code, testing::MatchesRegex("shoal-[0-9a-z]+"))
      << "one line that a double click selects";
  EXPECT_LT(code.size(), 200u);
  const auto again = decode_invitation(code);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->inviter, kInviter);
  EXPECT_EQ(again->token, invitation.token);
  EXPECT_EQ(again->addresses, invitation.addresses);
}

TEST(Invitation, ACodeMayBeReadAloudAndWrapped) {
  const std::string code = encode({kInviter, token(1), {"10.0.0.1:7466"}});
  std::string spoken;
  for (size_t i = 0; i < code.size(); ++i) {
    char c = static_cast<char>(std::toupper(static_cast<unsigned char>(code[i])));
    if (i > 6 && c == '0') c = 'O';
    if (i > 6 && c == '1') c = 'l';
    spoken += c;
    if (i > 6 && i % 20 == 0) spoken += "\n  ";
  }
  const auto again = decode_invitation(spoken);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->addresses[0], "10.0.0.1:7466");
}

TEST(Invitation, EverySingleTypoIsNoticed) {
  const std::string code = encode({kInviter, token(9), {"10.0.0.1:7466"}});
  for (size_t i = 6; i + 1 < code.size(); ++i) {
    std::string typo = code;
    typo[i] = typo[i] == 'k' ? 'm' : 'k';
    const auto decoded = decode_invitation(typo);
    ASSERT_FALSE(decoded) << i;
    EXPECT_EQ(decoded.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(decoded.error().message, HasSubstr("mistyped or incomplete"));
  }
}

TEST(Invitation, WhatIsNoCodeSaysSo) {
  const std::string code = encode({kInviter, token(9), {"10.0.0.1:7466"}});
  const struct {
    std::string text;
    const char* says;
  } cases[] = {
      {"", "not an invitation code"},
      {"shoal-", "not an invitation code"},
      {"http://example.org", "not an invitation code"},
      {"shoal-abc", "too short"},
      {code.substr(0, code.size() / 2), "too short"},
      {code.substr(0, code.size() - 3), "mistyped or incomplete"},
      {code + "u", "holds 'u'"},
      {"shoal-!!", "holds '!'"},
      {std::string("shoal-\x01", 7), "a strange character"},
      {std::string(100000, 'a'), "100000 characters long"},
  };
  for (const auto& one : cases) {
    const auto decoded = decode_invitation(one.text);
    ASSERT_FALSE(decoded) << one.text.substr(0, 40);
    EXPECT_THAT(decoded.error().message, HasSubstr(one.says));
  }
}

class DeskTest : public testing::Test {
 protected:
  std::string proof(const Invitation& invitation, const std::string& joiner) {
    return pairing_proof(invitation, Side::kJoiner, joiner, kInviter);
  }
  Status admit(const Invitation& invitation, const std::string& joiner, Clock::time_point now) {
    const auto result =
        desk_.admit(invitation_id(invitation), proof(invitation, joiner), joiner, now);
    return result ? Status() : std::unexpected(result.error());
  }
  InvitationDesk desk_;
  const Invitation invitation_ = desk_.invite(kInviter, {"x:1"}, token(1), kStart);
};

TEST_F(DeskTest, AdmitsOneNode) {
  EXPECT_TRUE(admit(invitation_, kJoiner, kStart + minutes(9)));
  EXPECT_TRUE(admit(invitation_, kJoiner, kStart + minutes(9))) << "its answer may have been lost";
  const Status other = admit(invitation_, std::string(64, 'c'), kStart + minutes(9));
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr("used already, by node bbbbbbbb"));
}

TEST_F(DeskTest, ExpiresAfterTenMinutes) {
  EXPECT_THAT(admit(invitation_, kJoiner, kStart + minutes(10)).error().message,
              HasSubstr("has expired"));
  EXPECT_THAT(admit(invitation_, kJoiner, kStart + minutes(20)).error().message,
              HasSubstr("does not know"));
}

TEST_F(DeskTest, AllowsFiveTries) {
  const std::string id = invitation_id(invitation_);
  for (int tries = 0; tries < 5; ++tries) {
    EXPECT_THAT(desk_.admit(id, "no", kJoiner, kStart).error().message,
                HasSubstr("token is wrong"));
  }
  EXPECT_THAT(admit(invitation_, kJoiner, kStart).error().message,
              HasSubstr("after 5 wrong tries"));
}

TEST_F(DeskTest, AProofIsGoodForOneJoinerAndOneSide) {
  const std::string id = invitation_id(invitation_);
  EXPECT_FALSE(desk_.admit(id, proof(invitation_, std::string(64, 'c')), kJoiner, kStart));
  EXPECT_FALSE(desk_.admit(id, pairing_proof(invitation_, Side::kInviter, kJoiner, kInviter),
                           kJoiner, kStart));
}

TEST_F(DeskTest, StrangersAreListenedToOnlyAroundAnInvitation) {
  EXPECT_FALSE(InvitationDesk().is_door_open(kStart));
  EXPECT_TRUE(desk_.is_door_open(kStart + minutes(15))) << "a late one learns why";
  EXPECT_FALSE(desk_.is_door_open(kStart + minutes(20)));
  EXPECT_TRUE(admit(invitation_, kJoiner, kStart + seconds(1)));
  EXPECT_FALSE(desk_.is_door_open(kStart + minutes(11)));
}

TEST_F(DeskTest, KeepsAFewOpen) {
  Invitation last;
  for (int i = 2; i < 12; ++i) last = desk_.invite(kInviter, {"x:1"}, token(i), kStart);
  EXPECT_THAT(admit(invitation_, kJoiner, kStart).error().message, HasSubstr("does not know"));
  EXPECT_TRUE(admit(last, kJoiner, kStart));
}

}  // namespace
}  // namespace shoal::cluster
