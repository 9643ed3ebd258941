#include "cluster/identity.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cluster/member_list.h"
#include "cluster_fixture.h"

namespace shoal::cluster {
namespace {

using testing::HasSubstr;

class IdentityTest : public testing::Test {
 protected:
  std::string file() const { return folder_.path() + "/identity.pem"; }
  void expect_damaged(const std::string& text, const char* says) {
    ASSERT_TRUE(write_file_atomically(file(), text));
    const auto identity = load_or_make_identity(folder_.path());
    ASSERT_FALSE(identity);
    EXPECT_EQ(identity.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(identity.error().message, HasSubstr(says));
    EXPECT_EQ(*read_file(file()), text) << "a damaged identity is never replaced";
  }
  TemporaryFolder folder_;
};

TEST_F(IdentityTest, IsMadeOnceAndKept) {
  const auto first = load_or_make_identity(folder_.path());
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_TRUE(is_node_id(first->id));
  EXPECT_EQ(*http::fingerprint_of_certificate(first->tls.certificate_pem), first->id);
  struct stat facts;
  ASSERT_EQ(::stat(file().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  EXPECT_EQ(load_or_make_identity(folder_.path())->id, first->id);
}

TEST_F(IdentityTest, TwoHomesAreTwoNodes) {
  TemporaryFolder other;
  EXPECT_NE(load_or_make_identity(folder_.path())->id, load_or_make_identity(other.path())->id);
}

TEST_F(IdentityTest, DamageIsNamed) {
  ASSERT_TRUE(load_or_make_identity(folder_.path()));
  const std::string good = *read_file(file());
  expect_damaged("", "no private key");
  expect_damaged("garbage", "no private key");
  expect_damaged(good.substr(0, 60), "no private key");
  expect_damaged(good.substr(0, good.find("-----BEGIN CERTIFICATE")), "no certificate");
  expect_damaged(good.substr(0, good.size() - 60), "no certificate");
}

TEST_F(IdentityTest, AForeignCertificateIsNoticed) {
  TemporaryFolder other;
  ASSERT_TRUE(load_or_make_identity(folder_.path()));
  ASSERT_TRUE(load_or_make_identity(other.path()));
  const std::string mine = *read_file(file());
  const std::string theirs = *read_file(other.path() + "/identity.pem");
  const auto certificate = [](const std::string& text) {
    return text.find("-----BEGIN CERTIFICATE");
  };
  expect_damaged(mine.substr(0, certificate(mine)) + theirs.substr(certificate(theirs)),
                 "do not belong together");
}

TEST_F(IdentityTest, AFileThatOthersMayReadIsRefused) {
  ASSERT_TRUE(load_or_make_identity(folder_.path()));
  ASSERT_EQ(::chmod(file().c_str(), 0644), 0);
  const auto identity = load_or_make_identity(folder_.path());
  ASSERT_FALSE(identity);
  EXPECT_THAT(identity.error().message, HasSubstr("mode 0644"));
  EXPECT_THAT(identity.error().message, HasSubstr("chmod 600"));
}

}  // namespace
}  // namespace shoal::cluster
