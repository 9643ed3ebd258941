#include "transport/verbs_link.h"

#include <gmock/gmock.h>

#include "linked.h"
#include "transport/verbs_hello.h"
#include "verbs_fake.h"

namespace shoal {
namespace {

using ::testing::HasSubstr;

// What holds of every link is in link_test.cc; here is what RDMA adds.
class VerbsTest : public ::testing::Test {
 protected:
  VerbsOptions options(uint32_t slab_bytes = 4096, uint32_t slabs = 4) {
    VerbsOptions options;
    options.slab_bytes = slab_bytes;
    options.slabs = slabs;
    options.kind = QueuePairKind::kReliable;
    options.api = &fabric_.api();
    return options;
  }
  void connect(const VerbsOptions& options_a, const VerbsOptions& options_b) {
    VerbsEnds ends = join_verbs(options_a, options_b);
    ASSERT_TRUE(ends.a) << ends.a.error().message;
    ASSERT_TRUE(ends.b) << ends.b.error().message;
    a_ = std::move(*ends.a);
    b_ = std::move(*ends.b);
  }
  void connect() { connect(options(), options()); }
  // What both ends say when they cannot be joined.
  std::pair<Error, Error> refused(const VerbsOptions& options_a, const VerbsOptions& options_b) {
    VerbsEnds ends = join_verbs(options_a, options_b);
    EXPECT_FALSE(ends.a);
    EXPECT_FALSE(ends.b);
    return {ends.a ? Error{} : ends.a.error(), ends.b ? Error{} : ends.b.error()};
  }
  void send_all_sizes();

  FakeFabric fabric_;
  VerbsApi own_api_ = fabric_.api();  // to be changed
  std::unique_ptr<Link> a_;
  std::unique_ptr<Link> b_;
};

void VerbsTest::send_all_sizes() {
  const std::vector<size_t> sizes = {0, 1,     4079,  4080,   4081,    8160, 8161,   0,
                                     7, 65520, 65521, 100001, 3000003, 5,    1 << 20};
  std::thread sender([&] {
    for (size_t i = 0; i < sizes.size(); ++i) {
      const auto sent = a_->send(pattern(sizes[i], static_cast<unsigned>(i)), in_seconds(60));
      ASSERT_TRUE(sent) << sent.error().message;
    }
  });
  Bytes frame;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto got = b_->receive(frame, in_seconds(60));
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(frame, pattern(sizes[i], static_cast<unsigned>(i))) << sizes[i];
  }
  sender.join();
  EXPECT_EQ(fabric_.overruns(), 0);
  EXPECT_LE(fabric_.most_outstanding(), 32);
}

TEST_F(VerbsTest, FramesOfEverySizeInPieces) {
  connect();
  send_all_sizes();
}

TEST_F(VerbsTest, AlsoOverUnreliablePairsAndWithTheMostSlabs) {
  VerbsOptions wanted = options(64 << 10, 16);
  wanted.kind = QueuePairKind::kUnreliable;
  connect(wanted, wanted);
  send_all_sizes();
}

TEST_F(VerbsTest, EndsWithDifferentSlabsMeetInTheSmaller) {
  connect(options(64 << 10, 16), options(1024, 4));
  send_all_sizes();
  a_.swap(b_);
  send_all_sizes();
}

TEST_F(VerbsTest, WithoutChannelsAndTypesOfAddresses) {
  VerbsApi& lean = own_api_;
  lean.create_comp_channel = nullptr;
  lean.query_gid_ex = nullptr;
  lean.wc_status_str = nullptr;
  fabric_.faults.gid_types = false;
  VerbsOptions wanted = options();
  wanted.api = &lean;
  connect(wanted, wanted);
  send_all_sizes();
  EXPECT_EQ(fabric_.armed(), 0);
}

TEST_F(VerbsTest, ASleeperIsWokenByAFrame) {
  connect();
  std::thread late([&] {
    while (fabric_.armed() == 0) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_TRUE(a_->send(pattern(100), in_seconds(20)));
  });
  Bytes frame;
  const auto got = b_->receive(frame, in_seconds(60));
  late.join();
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(frame, pattern(100));
}

TEST_F(VerbsTest, APeerThatDoesNotTakeIsNeverOverrun) {
  connect();
  const auto late = a_->send(pattern(1 << 20), in_seconds(0.05));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
  EXPECT_THAT(late.error().message, HasSubstr("12240 of 1048576 bytes sent"));  // three slabs
  EXPECT_EQ(fabric_.overruns(), 0);
}

TEST_F(VerbsTest, APathThatSwallowsEverythingIsAnErrorAtTheDeadline) {
  connect();
  fabric_.faults.mute = true;
  ASSERT_TRUE(a_->send(pattern(10), in_seconds(5)));
  Bytes frame;
  const auto late = b_->receive(frame, in_seconds(0.05));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
}

TEST_F(VerbsTest, AFailedSendNamesThePeerTheCardAndTheReason) {
  fabric_.faults.fail_send_at = 2;
  connect();
  Bytes frame;
  const auto failed = [&]() -> Status {
    SHOAL_TRY(a_->send(pattern(3 * 4080), in_seconds(20)));
    return a_->receive(frame, in_seconds(20));
  }();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(failed.error().message, HasSubstr("rank 1 at b:2"));
  EXPECT_THAT(failed.error().message, HasSubstr("fake_0 port 1 could not send"));
  EXPECT_THAT(failed.error().message, HasSubstr("transport retry counter exceeded"));
  const auto gone = b_->receive(frame, in_seconds(60));  // and the peer does not wait
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kUnreachable);
}

TEST_F(VerbsTest, ARefusedSendIsAnErrorThatStays) {
  fabric_.faults.fail_post_send_at = 0;
  connect();
  const auto failed = a_->send(pattern(10), in_seconds(20));
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("fake_0 port 1: cannot send: Cannot allocate"));
  EXPECT_EQ(a_->send({}, in_seconds(1)).error().message, failed.error().message);
}

TEST_F(VerbsTest, ALostPieceOfAnUnreliablePairIsNoticed) {
  fabric_.faults.lose_at = 1;
  VerbsOptions wanted = options();
  wanted.kind = QueuePairKind::kUnreliable;
  connect(wanted, wanted);
  ASSERT_TRUE(a_->send(pattern(3 * 4080), in_seconds(20)));
  Bytes frame;
  const auto failed = b_->receive(frame, in_seconds(60));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(failed.error().message,
              HasSubstr("piece 2 of rank 0 at a:1 arrived over RDMA where 1 was due"));
}

TEST_F(VerbsTest, CountersCountEveryPiecesHeader) {
  connect();
  ASSERT_TRUE(a_->send(pattern(5000), in_seconds(5)));
  Bytes frame;
  ASSERT_TRUE(b_->receive(frame, in_seconds(5)));
  EXPECT_EQ(a_->counters().bytes_sent, 5000u + 2 * 16);
  EXPECT_EQ(b_->counters().bytes_received, 5000u + 2 * 16);
  EXPECT_EQ(b_->counters().calls, 1u);
}

// What arrives is changed on its way, as a peer could that knows the key.
class HostileVerbsPeer : public VerbsTest {
 protected:
  Error receive_tampered(const std::function<void(std::span<std::byte>)>& change) {
    connect();
    fabric_.faults.tamper = change;
    EXPECT_TRUE(a_->send(pattern(2 * 4080), in_seconds(5)));
    Bytes frame;
    const auto got = b_->receive(frame, in_seconds(60));
    EXPECT_FALSE(got);
    EXPECT_LE(frame.capacity(), 2u << 20);
    return got ? Error{} : got.error();
  }
};

TEST_F(HostileVerbsPeer, AnUnknownKind) {
  const Error error = receive_tampered([](auto piece) { piece[0] = std::byte{9}; });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
}
TEST_F(HostileVerbsPeer, AHugeFrameEarnsNoMemory) {
  const Error error = receive_tampered([](auto piece) {
    if (piece[4] == std::byte{0}) piece[15] = std::byte{0x3f};
  });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
}
TEST_F(HostileVerbsPeer, AFrameOverTheLimit) {
  const Error error = receive_tampered([](auto piece) { piece[15] = std::byte{0x7f}; });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
  EXPECT_THAT(error.message, HasSubstr("over the limit"));
}
TEST_F(HostileVerbsPeer, AFrameThatShrinks) {
  const Error error = receive_tampered([](auto piece) { piece[12] = std::byte{1}; });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
}
TEST_F(HostileVerbsPeer, MoreReceivesGrantedThanThereAre) {
  const Error error = receive_tampered([](auto piece) { piece[8] = std::byte{200}; });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
  EXPECT_THAT(error.message, HasSubstr("granted 200 receives"));
}
TEST_F(HostileVerbsPeer, AGrantThatGoesBack) {
  const Error error = receive_tampered([](auto piece) { piece[8] = std::byte{3}; });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
}
TEST_F(HostileVerbsPeer, AGrantWithAPayload) {
  const Error error = receive_tampered([](auto piece) {
    piece[0] = std::byte{2};
    std::ranges::fill(piece.subspan(12, 4), std::byte{0});
  });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
}

class VerbsSetUp : public VerbsTest {};

TEST_F(VerbsSetUp, NoDeviceOnOneSideIsSaidOnBoth) {
  VerbsApi& none = own_api_;
  none.get_device_list = [](int* count) -> ibv_device** {
    *count = 0;
    errno = ENOSYS;
    return nullptr;
  };
  VerbsOptions without = options();
  without.api = &none;
  const auto [mine, theirs] = refused(without, options());
  EXPECT_EQ(mine.code, ErrorCode::kUnsupported);
  EXPECT_THAT(mine.message, HasSubstr("this machine has no RDMA device"));
  EXPECT_EQ(theirs.code, ErrorCode::kUnsupported);
  EXPECT_THAT(theirs.message, HasSubstr("rank 0 at a:1 cannot use RDMA"));
}

TEST_F(VerbsSetUp, APortWithoutAnAddress) {
  fabric_.faults.address = false;
  const auto [mine, theirs] = refused(options(), options());
  EXPECT_THAT(mine.message, HasSubstr("fake_0 port 1 has no address (GID): give its network"));
}

TEST_F(VerbsSetUp, APortThatIsDown) {
  fabric_.faults.active = false;
  fabric_.faults.devices = 2;
  const auto [mine, theirs] = refused(options(), options());
  EXPECT_THAT(mine.message, HasSubstr("fake_0 port 1 is not active"));
}

TEST_F(VerbsSetUp, ADeviceThatIsNotThere) {
  VerbsOptions wanted = options();
  fabric_.faults.devices = 2;
  wanted.device = "mlx5_7";
  const auto [mine, theirs] = refused(wanted, options());
  EXPECT_EQ(mine.code, ErrorCode::kNotFound);
  EXPECT_THAT(mine.message, HasSubstr("'mlx5_7'; this machine has fake_0, fake_1"));
}

TEST_F(VerbsSetUp, ADeviceByName) {
  fabric_.faults.devices = 3;
  VerbsOptions wanted = options();
  wanted.device = "fake_2";
  connect(wanted, options());
}

TEST_F(VerbsSetUp, AnAddressThatIsEmpty) {
  VerbsOptions wanted = options();
  wanted.gid_index = 3;
  EXPECT_THAT(refused(wanted, options()).first.message, HasSubstr("has no address (GID) 3"));
}

TEST_F(VerbsSetUp, MemoryThatCannotBePinned) {
  fabric_.faults.pinnable_bytes = 4096;
  EXPECT_THAT(refused(options(), options()).first.message,
              HasSubstr("pin 32768 bytes of memory (see `ulimit -l`)"));
}

TEST_F(VerbsSetUp, ACardWithoutUnreliablePairs) {
  fabric_.faults.unreliable = false;
  VerbsOptions wanted = options();
  wanted.kind = QueuePairKind::kUnreliable;
  EXPECT_THAT(refused(wanted, wanted).first.message, HasSubstr("(UC)"));
}

TEST_F(VerbsSetUp, TwoKindsOfPairsDoNotMeet) {
  VerbsOptions other = options();
  other.kind = QueuePairKind::kUnreliable;
  const auto [mine, theirs] = refused(options(), other);
  EXPECT_THAT(mine.message, HasSubstr("rank 1 at b:2 wants the other kind of queue pair"));
  EXPECT_THAT(theirs.message, HasSubstr("rank 0 at a:1"));
}

TEST_F(VerbsSetUp, SlabsOutOfRange) {
  const auto bad = [&](uint32_t bytes, uint32_t slabs) {
    return refused(options(bytes, slabs), options()).first.code;
  };
  EXPECT_EQ(bad(1023, 8), ErrorCode::kInvalidArgument);
  EXPECT_EQ(bad((4 << 20) + 1, 8), ErrorCode::kInvalidArgument);
  EXPECT_EQ(bad(4096, 3), ErrorCode::kInvalidArgument);
  EXPECT_EQ(bad(4096, 17), ErrorCode::kInvalidArgument);
}

TEST_F(VerbsSetUp, APeerThatSaysNothingOrSomethingElse) {
  LinkEnds quiet = join(LinkMode::kTls);
  const auto late = make_verbs_link(std::move(*quiet.dialled), options(), in_seconds(0.05));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);

  LinkEnds other = join(LinkMode::kTls);
  ASSERT_TRUE((*other.accepted)->send(pattern(kVerbsHelloBytes), in_seconds(5)));
  const auto wrong = make_verbs_link(std::move(*other.dialled), options(), in_seconds(20));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(wrong.error().message, HasSubstr("rank 1 at b:2: no RDMA hello"));
}

TEST(VerbsLibrary, AMissingOneOrAnotherIsSaidSo) {
  const auto missing = load_verbs_from("libshoal-no-such-library.so");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(missing.error().message, HasSubstr("RDMA needs the library libshoal-no-such"));
  EXPECT_THAT(missing.error().message, HasSubstr("use another kind of link"));
  const auto another = load_verbs_from("libc.so.6");
  ASSERT_FALSE(another);
  EXPECT_THAT(another.error().message, HasSubstr("has no function ibv_get_device_list"));
}

}  // namespace
}  // namespace shoal
