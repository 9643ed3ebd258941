// A network that goes away between two ends of a link, and comes back: in a network namespace of
// its own, whose one interface is switched off and on.
#include <gmock/gmock.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>

#include "linked.h"

namespace shoal {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

// Sockets made by this thread from now on belong to it.
class OwnNetwork {
 public:
  OwnNetwork() {
    if (::unshare(CLONE_NEWNET) != 0) return;
    socket_ = UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    exists_ = socket_ && switch_to(true);
  }
  bool exists() const { return exists_; }
  bool switch_to(bool on) {
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = on ? IFF_UP | IFF_RUNNING : 0;
    return ::ioctl(socket_.get(), SIOCSIFFLAGS, &request) == 0;
  }

 private:
  UniqueFd socket_;
  bool exists_ = false;
};

// In a thread that ends with it, so that the other tests keep their network.
void in_own_network(const std::function<void(OwnNetwork&)>& test) {
  bool exists = true;
  std::thread([&] {
    OwnNetwork network;
    exists = network.exists();
    if (exists) test(network);
  }).join();
  if (!exists) GTEST_SKIP() << "a network namespace takes root";
}

TEST(CutOff, IsNoticedOnAnIdleLinkLongBeforeTheDeadline) {
  for (const LinkMode mode : {LinkMode::kPlain, LinkMode::kTls}) {
    in_own_network([mode](OwnNetwork& network) {
      const LinkEnds ends = join(mode);
      ASSERT_TRUE(network.switch_to(false));
      Bytes frame;
      const auto lost = (*ends.dialled)->receive(frame, in_seconds(60));
      ASSERT_FALSE(lost);
      EXPECT_EQ(lost.error().code, ErrorCode::kUnreachable);
      EXPECT_THAT(lost.error().message, HasSubstr("rank 1 at b:2 is cut off"));
    });
  }
}

// The kernel probes an idle link once a second. Off while it does, on again at once.
TEST(CutOff, IsNotWhatLosesOneProbe) {
  for (int attempt = 1;; ++attempt) {
    bool as_planned = false;
    in_own_network([&](OwnNetwork& network) {
      const LinkEnds ends = join(LinkMode::kPlain);
      const auto begun = Clock::now();
      std::thread interrupting([&] {
        std::this_thread::sleep_until(begun + milliseconds(700));
        network.switch_to(false);
        std::this_thread::sleep_until(begun + milliseconds(1250));
        network.switch_to(true);
        as_planned = Clock::now() < begun + milliseconds(1400);
      });
      Bytes frame;
      const auto late = (*ends.dialled)->receive(frame, in_seconds(2.5));
      interrupting.join();
      if (!as_planned) return;
      ASSERT_FALSE(late);
      EXPECT_EQ(late.error().code, ErrorCode::kDeadline) << late.error().message;
    });
    if (as_planned || IsSkipped() || HasFailure()) return;
    if (attempt == 5) GTEST_SKIP() << "this machine is too busy to interrupt a network for 0.5 s";
  }
}

}  // namespace
}  // namespace shoal
