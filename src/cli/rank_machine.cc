#include "cli/rank_machine.h"

#include <sys/socket.h>

namespace shoal::cli {
namespace {

constexpr std::string_view kIsItRunning =
    "is `shoal bench ranks MODEL --listen` running there, of this version?";

// As a number, which other machines can dial without asking anybody.
Result<std::string> peer_address(const UniqueFd& socket) {
  boost::asio::ip::tcp::endpoint endpoint;
  socklen_t size = static_cast<socklen_t>(endpoint.capacity());
  if (::getpeername(socket.get(), endpoint.data(), &size) != 0)
    return system_error("cannot read the address of", "a connection");
  endpoint.resize(size);
  return format_endpoint(endpoint);
}

Result<UniqueFd> dial_with_preamble(const std::string& address, const LinkPreamble& preamble,
                                    Deadline deadline) {
  SHOAL_ASSIGN(UniqueFd socket, dial_tcp(address, deadline));
  SHOAL_TRY(send_all(socket.get(), encode(preamble), deadline));
  return socket;
}

Error explained(const MachineCode& code, const Error& error) {
  if (error.code == ErrorCode::kInvalidArgument) return error;
  if (error.code == ErrorCode::kPermission) {
    return {ErrorCode::kPermission,
            fmt::format("{} does not accept this code: it was printed by another start of "
                        "`shoal bench ranks --listen`, or mistyped; copy what it prints now",
                        code.address)};
  }
  const bool silent = error.code == ErrorCode::kDeadline;
  return {silent ? ErrorCode::kUnreachable : error.code,
          fmt::format("{}; {}", error.message, kIsItRunning)};
}

Result<MachineFacts> facts_from(const Json& hello, std::string address) {
  MachineFacts facts;
  facts.address = std::move(address);
  SHOAL_ASSIGN(const std::string name, json_field<std::string>(hello, "machine"));
  SHOAL_ASSIGN(const std::string isa, json_field<std::string>(hello, "isa"));
  SHOAL_ASSIGN(const std::string file, json_field<std::string>(hello, "file"));
  facts.name = printable(name, 64);
  facts.isa = printable(isa, 16);
  facts.file = printable(file, 200);
  SHOAL_ASSIGN(facts.threads, json_field<int>(hello, "threads"));
  SHOAL_ASSIGN(facts.memory_available_bytes, json_field<uint64_t>(hello, "memory_available_bytes"));
  SHOAL_ASSIGN(facts.fingerprint, json_field<std::string>(hello, "fingerprint"));
  return facts;
}

Error refusal_in(const Json& frame, const std::string& address) {
  const auto code = json_field_or<std::string>(frame, "code", "");
  const auto message = json_field_or<std::string>(frame, "message", "refused without saying why");
  return {error_code_named(code.value_or("")),
          fmt::format("{}: {}", address, printable(message.value_or("refused")))};
}

// What both say first. A version is compared before anything else is read.
Result<MachineFacts> meet(Link& link, std::string address, Deadline deadline) {
  SHOAL_TRY(send_frame(link,
                       {{"type", "hello"},
                        {"protocol", kRankControlVersion},
                        {"shoal", SHOAL_VERSION},
                        {"machine", this_machine()}},
                       deadline));
  SHOAL_ASSIGN(const Json hello, receive_frame(link, deadline));
  const auto version = json_field_or<std::string>(hello, "shoal", "an unknown version");
  if (json_field_or<int>(hello, "protocol", 0).value_or(0) != kRankControlVersion ||
      version.value_or("") != SHOAL_VERSION) {
    return fail(ErrorCode::kUnsupported,
                "{} runs Shoal {} and this machine {}; ranks of one model must be of one version: "
                "install the same on both",
                address, printable(version.value_or("of another version"), 40), SHOAL_VERSION);
  }
  if (hello.value("type", Json()) != "hello") return std::unexpected(refusal_in(hello, address));
  auto facts = facts_from(hello, address);
  if (!facts) return std::unexpected(facts.error().within(address));
  return facts;
}

}  // namespace

Result<std::unique_ptr<RankMachine>> RankMachine::open(boost::asio::io_context& loop,
                                                       const MachineCode& code, int rank) {
  const Deadline deadline = Clock::now() + kControlTime;
  LinkPreamble preamble;  // of no instance: a command's
  preamble.to_rank = static_cast<uint16_t>(rank);
  auto socket = dial_with_preamble(code.address, preamble, deadline);
  if (!socket) return std::unexpected(explained(code, socket.error()));
  SHOAL_ASSIGN(std::string address, peer_address(*socket));
  auto link = make_tcp_link(std::move(*socket), LinkMode::kTls, true, control_key(code.token),
                            code.address, deadline);
  if (!link) return std::unexpected(explained(code, link.error()));
  SHOAL_ASSIGN(MachineFacts facts, meet(**link, std::move(address), deadline));
  std::unique_ptr<RankMachine> machine(new RankMachine(std::move(facts), rank));
  RankMachine* const self = machine.get();
  machine->control_ = std::make_unique<RankControl>(
      loop, std::move(*link),
      RankControl::Callbacks{[self](const Json& frame) { self->take_frame(frame); },
                             [self](const Error& why) { self->take_end(why); }});
  return machine;
}

void RankMachine::take_frame(const Json& frame) {
  last_frame_at_ = Clock::now();
  if (callbacks_.on_frame) callbacks_.on_frame(frame);
}

void RankMachine::take_end(const Error& why) {
  lost_ = why;
  if (why.message.contains("closed its link")) {
    lost_ = Error{ErrorCode::kUnreachable,
                  fmt::format("`shoal bench ranks --listen` has ended at {}", facts_.address)};
  }
  if (callbacks_.on_end) callbacks_.on_end(*lost_);
}

void RankMachine::start(const ShardOrder& order, bool pin, RankControl::Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  last_frame_at_ = Clock::now();
  control_->send({{"type", "start"}, {"order", to_json(order)}, {"pin", pin}});
}

void RankMachine::connect(int rank, const MachineFacts& other) {
  control_->send({{"type", "connect"}, {"rank", rank}, {"address", other.address}});
}

Result<UniqueFd> RankMachine::dial(const ShardOrder& order) const {
  const LinkPreamble preamble{order.instance, order.generation, 0, static_cast<uint16_t>(rank_)};
  return dial_with_preamble(facts_.address, preamble, Clock::now() + kControlTime);
}

}  // namespace shoal::cli
