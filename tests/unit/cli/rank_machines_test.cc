// What two commands say to each other that bench over several machines: frames, a listener that
// misbehaves towards a lead, a lead that misbehaves towards a listener.
#include <gmock/gmock.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <thread>

#include "cli/rank_control.h"
#include "cli/rank_listener.h"
#include "cli/rank_machine.h"

namespace shoal::cli {
namespace {

using boost::asio::ip::tcp;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kModel = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/llama/plain.gguf";

Deadline soon() {
  return Clock::now() + std::chrono::seconds(20);
}

struct LinkPair {
  std::unique_ptr<Link> near;
  std::unique_ptr<Link> far;
};

LinkPair linked() {
  auto sockets = connected_tcp_pair();
  const Bytes key(32, std::byte{7});
  auto far = std::async(std::launch::async, [&, socket = std::move(sockets->second)]() mutable {
    return std::move(
        *make_tcp_link(std::move(socket), LinkMode::kTls, false, key, "the far end", soon()));
  });
  auto near = make_tcp_link(std::move(sockets->first), LinkMode::kTls, true, key, "birch", soon());
  return {std::move(*near), far.get()};
}

// --- frames ---

// One side on a loop, and what it heard.
struct Heard {
  boost::asio::io_context loop;
  std::vector<Json> frames;
  std::optional<Error> end;
  std::unique_ptr<RankControl> control;

  explicit Heard(std::unique_ptr<Link> link) {
    control = std::make_unique<RankControl>(
        loop, std::move(link),
        RankControl::Callbacks{[this](const Json& frame) { frames.push_back(frame); },
                               [this](const Error& why) { end = why; }});
  }
  void turn_until(const std::function<bool()>& done) {
    while (!done() && Clock::now() < limit) loop.run_for(std::chrono::milliseconds(10));
  }
  Deadline limit = soon();
};

TEST(RankControl, FramesArriveWholeAndInOrder) {
  LinkPair links = linked();
  Heard near(std::move(links.near));
  Heard far(std::move(links.far));
  near.control->send({{"type", "first"}});
  near.control->send({{"type", "second"}, {"text", std::string(700'000, 'x')}});
  far.control->send({{"type", "answer"}});
  far.turn_until([&] {
    near.loop.run_for(std::chrono::milliseconds(10));
    return far.frames.size() == 2 && near.frames.size() == 1;
  });
  ASSERT_EQ(far.frames.size(), 2u);
  EXPECT_EQ(far.frames[0]["type"], "first");
  EXPECT_EQ(far.frames[1]["text"].get<std::string>().size(), 700'000u);
  EXPECT_THAT(near.frames, ElementsAre(Json{{"type", "answer"}}));
  far.control.reset();
  near.turn_until([&] { return near.end.has_value(); });
  ASSERT_TRUE(near.end);
  EXPECT_THAT(near.end->message, HasSubstr("birch closed its link"));
}

TEST(RankControl, WhatIsNoFrameEndsIt) {
  const Bytes too_long = {std::byte{1}, std::byte{0}, std::byte{0x10}, std::byte{0}};
  const Bytes of_two = {std::byte{2}, std::byte{}, std::byte{}, std::byte{}};
  const auto text = [](std::string_view two) {
    return Bytes(as_bytes(two).begin(), as_bytes(two).end());
  };
  const struct {
    std::vector<Bytes> sent;
    std::string said;
  } cases[] = {{{too_long}, "announced a message of 1048577 bytes"},
               {{Bytes(4)}, "announced a message of 0 bytes"},
               {{text("{}")}, "birch"},  // no length before it
               {{of_two, text("[]")}, "that is no object"},
               {{of_two, text("{x")}, "not valid JSON"},
               {{of_two, text("{ }")}, "birch"}};
  for (const auto& one : cases) {
    LinkPair links = linked();
    for (const Bytes& frame : one.sent) ASSERT_TRUE(links.far->send(frame, soon()));
    Heard near(std::move(links.near));
    near.turn_until([&] { return near.end.has_value(); });
    ASSERT_TRUE(near.end) << one.said;
    EXPECT_THAT(near.end->message, HasSubstr(one.said));
    EXPECT_TRUE(near.frames.empty());
  }
}

TEST(RankControl, SilenceEndsItAndCallbacksMayEndItToo) {
  LinkPair quiet = linked();
  Heard near(std::move(quiet.near));
  near.turn_until([&] { return near.end.has_value(); });
  ASSERT_TRUE(near.end);
  EXPECT_EQ(near.end->code, ErrorCode::kUnreachable);
  EXPECT_THAT(near.end->message, HasSubstr("birch has said nothing for 2 s"));

  LinkPair links = linked();
  Heard ending(std::move(links.near));
  int heard = 0;
  ending.control->set_callbacks({[&](const Json&) {
                                   ++heard;
                                   ending.control.reset();
                                 },
                                 [&](const Error&) { ADD_FAILURE(); }});
  ASSERT_TRUE(send_frame(*links.far, {{"type", "last"}}, soon()));
  ASSERT_TRUE(send_frame(*links.far, {{"type", "too late"}}, soon()));
  ending.turn_until([&] { return ending.control == nullptr; });
  ending.loop.run_for(std::chrono::milliseconds(20));
  EXPECT_EQ(heard, 1);
}

TEST(RankControl, WordsOfOthersAreFitForATerminal) {
  EXPECT_EQ(printable("a\x1b[31mb\r\nc\x7f"), "a [31mb  c ");
  EXPECT_EQ(printable("abcdef", 3), "abc");
}

// --- a listener as a lead sees it ---

// Accepts one lead, with a key, and does as told.
class FalseListener {
 public:
  FalseListener(MachineToken token, std::function<void(Link&)> act)
      : acceptor_(io_, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0)),
        thread_([this, token, act = std::move(act)] {
          boost::system::error_code error;
          tcp::socket socket = acceptor_.accept(error);
          std::array<std::byte, kPreambleBytes> preamble;
          if (error || ::recv(socket.native_handle(), preamble.data(), preamble.size(),
                              MSG_WAITALL) != kPreambleBytes) {
            return;
          }
          preamble_ = decode_preamble(preamble);
          auto link = make_tcp_link(UniqueFd(socket.release()), LinkMode::kTls, false,
                                    control_key(token), "the lead", soon());
          if (link) act(**link);
        }) {}
  ~FalseListener() {
    if (thread_.joinable()) thread_.join();
  }
  std::string address() const { return format_endpoint(acceptor_.local_endpoint()); }
  Result<LinkPreamble> preamble() {
    thread_.join();
    return preamble_;
  }

 private:
  boost::asio::io_context io_;
  tcp::acceptor acceptor_;
  Result<LinkPreamble> preamble_ = fail(ErrorCode::kUnreachable, "nobody came");
  std::thread thread_;
};

// What a lead makes of one that answers so.
Error opened(const Json& answer) {
  const MachineToken token = new_token();
  FalseListener listener(token, [&](Link& link) {
    (void)receive_frame(link, soon());
    (void)send_frame(link, answer, soon());
    (void)receive_frame(link, soon());
  });
  boost::asio::io_context loop;
  const auto machine = RankMachine::open(loop, {listener.address(), token}, 3);
  if (machine) return {};
  EXPECT_EQ(listener.preamble()->to_rank, 3);
  return machine.error();
}

TEST(RankMachine, AnotherVersionIsNamedWithBoth) {
  const Error error = opened({{"type", "hello"}, {"protocol", 1}, {"shoal", "0.0.1\x1b[2J"}});
  EXPECT_EQ(error.code, ErrorCode::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("runs Shoal 0.0.1 [2J and this machine "));
  EXPECT_EQ(opened({{"type", "hello"}}).code, ErrorCode::kUnsupported);
  EXPECT_EQ(opened({{"protocol", "1"}, {"shoal", 3}}).code, ErrorCode::kUnsupported);
}

TEST(RankMachine, AWrongTokenAndNobodyAreToldApart) {
  boost::asio::io_context loop;
  FalseListener listener(new_token(), [](Link&) { ADD_FAILURE(); });
  const auto wrong = RankMachine::open(loop, {listener.address(), new_token()}, 1);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kPermission);
  EXPECT_THAT(wrong.error().message, HasSubstr("does not accept this code"));
  const auto nobody = RankMachine::open(loop, {"127.0.0.1:1", new_token()}, 1);
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(nobody.error().message, HasSubstr("127.0.0.1:1"));
}

// --- a lead as a listener sees it ---

class Listening : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = RankListener::start({kModel, "127.0.0.1:0", 1, ""}, [](const std::string&) {});
    ASSERT_TRUE(made) << made.error().message;
    listener_ = std::move(*made);
    running_ = std::thread([this] { listener_->run([this] { return !stop_.load(); }); });
  }
  void TearDown() override {
    stop_ = true;
    if (running_.joinable()) running_.join();
  }

  // As a lead connects; then the listener's answer.
  std::unique_ptr<Link> lead() {
    LinkPreamble preamble;
    preamble.to_rank = 1;
    auto socket = dial_tcp(listener_->code().address, soon());
    EXPECT_TRUE(socket && send_all(socket->get(), encode(preamble), soon()));
    auto link = make_tcp_link(std::move(*socket), LinkMode::kTls, true,
                              control_key(listener_->code().token), "the listener", soon());
    EXPECT_TRUE(link) << link.error().message;
    return std::move(*link);
  }
  // One that is accepted, of this version.
  std::unique_ptr<Link> accepted() {
    std::unique_ptr<Link> link = lead();
    EXPECT_TRUE(send_frame(*link, {{"type", "hello"}}, soon()));
    const std::string version = receive_frame(*link, soon())->value("shoal", "");
    link = lead();
    EXPECT_TRUE(send_frame(*link, {{"type", "hello"}, {"shoal", version}}, soon()));
    const auto hello = receive_frame(*link, soon());
    EXPECT_EQ(hello->value("type", ""), "hello");
    EXPECT_EQ(hello->value("file", ""), "plain.gguf");
    return link;
  }
  static Json next(Link& link) {
    while (true) {
      const auto frame = receive_frame(link, soon());
      if (!frame) return {{"type", "end"}, {"message", frame.error().message}};
      if (frame->value("type", "") != "alive") return *frame;
    }
  }

  std::unique_ptr<RankListener> listener_;
  std::thread running_;
  std::atomic<bool> stop_{false};
};

Json order(int rank, int64_t context, int64_t sequences, const std::string& instance) {
  const auto planned = [](int stage, int begin, int end) {
    return Json{{"node", "n"},
                {"share", 0.5},
                {"stage", stage},
                {"kv_bytes", 1},
                {"weight_bytes", 1},
                {"memory_bytes", 1},
                {"cut",
                 {{"heads", {0, 4}},
                  {"feed_forward", {0, 64}},
                  {"vocabulary", {0, 64}},
                  {"layers", {begin, end}}}}};
  };
  return {{"instance", instance},
          {"generation", 1},
          {"rank", rank},
          {"plan",
           {{"context", context},
            {"sequences", sequences},
            {"ranks", {planned(0, 0, 1), planned(1, 1, 2)}}}},
          {"model_path", "/etc/passwd"},
          {"link_mode", "tls"},
          {"emulated", ""},
          {"links_given", true},
          {"verbs", false},
          {"bench", true},
          {"addresses", {Json::array(), Json::array()}},
          {"keys", {"07", "07"}},
          {"threads", 1},
          {"isa", ""},
          {"sampling", Json::array()}};
}

TEST_F(Listening, OrdersThatCannotBeMeantAreRefusedAndStartNothing) {
  const std::unique_ptr<Link> link = accepted();
  const std::string instance(32, '1');
  const auto start = [](Json given) {
    return Json{{"type", "start"}, {"order", std::move(given)}, {"pin", false}};
  };
  Json unpinned = start(order(1, 16, 2, instance));
  unpinned["pin"] = "yes";
  const std::pair<Json, std::string> cases[] = {
      {{{"type", "start"}}, "'order'"},
      {start(3), "'instance'"},
      {start(order(0, 16, 2, instance)), "cannot be meant"},  // the lead's own
      {start(order(1, 1 << 30, 2, instance)), "cannot be meant"},
      {start(order(1, 16, 60000, instance)), "cannot be meant"},
      {start(order(1, 16, 2, std::string(32, '0'))), "cannot be meant"},
      {unpinned, "'pin'"},
      {{{"type", "connect"}, {"rank", 1}, {"address", "127.0.0.1:1"}}, "rank 1"},
      {{{"type", "connect"}, {"rank", 2}, {"address", "localhost:1"}}, "'localhost:1'"},
      {{{"type", "dance"}}, "'dance'"},
      {{{"type", 7}}, "unknown type"}};
  for (const auto& [frame, said] : cases) {
    ASSERT_TRUE(send_frame(*link, frame, soon()));
    const Json answer = next(*link);
    EXPECT_EQ(answer["type"], "failed") << frame << answer;
    EXPECT_THAT(answer.value("message", ""), HasSubstr(said)) << frame;
  }
}

TEST_F(Listening, OneLeadAtATimeAndTheNextOnceItHasGone) {
  std::unique_ptr<Link> first = accepted();
  std::unique_ptr<Link> second = lead();
  ASSERT_TRUE(send_frame(*second, {{"type", "hello"}}, soon()));
  const auto refused = receive_frame(*second, soon());
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->value("type", ""), "refused");
  EXPECT_EQ(refused->value("code", ""), "busy");
  EXPECT_THAT(refused->value("message", ""), HasSubstr("it benches for"));
  first.reset();
  // Noticed at once, or, at the latest, by its silence.
  for (const Deadline until = soon(); Clock::now() < until;) {
    second = lead();
    ASSERT_TRUE(send_frame(*second, {{"type", "hello"}}, soon()));
    const auto answer = receive_frame(*second, soon());
    ASSERT_TRUE(answer);
    if (answer->value("type", "") == "hello") return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  FAIL() << "still busy";
}

TEST_F(Listening, ALeadThatSaysNothingMoreIsGivenUp) {
  const std::unique_ptr<Link> link = accepted();
  EXPECT_EQ(next(*link)["type"], "end");
}

}  // namespace
}  // namespace shoal::cli
