#include "cli/rank_links.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <future>

#include "transport/link_model.h"
#include "transport/shm.h"

namespace shoal::cli {
namespace {

constexpr std::string_view kEmulated = "emulated:";
constexpr std::chrono::seconds kConnectTimeout{10};

std::unexpected<Error> system_failure(std::string_view what) {
  return fail(ErrorCode::kIo, "{}: {}", what, std::strerror(errno));
}

sockaddr_in address_of(const std::string& text, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  SHOAL_CHECK(::inet_pton(AF_INET, text.c_str(), &address.sin_addr) == 1);
  return address;
}

// On a thread of its own, which may move to another network namespace and ends there.
template <typename Work>
auto within(int space, Work work) {
  using Value = std::invoke_result_t<Work>;
  return std::async(std::launch::async,
                    [space, work = std::move(work)]() -> Value {
                      if (::setns(space, CLONE_NEWNET) != 0)
                        return system_failure("cannot enter a network namespace");
                      return work();
                    })
      .get();
}

Result<UniqueFd> listen_on(const std::string& ip) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = address_of(ip, 0);
  if (!socket ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), 1) != 0) {
    return system_failure("cannot listen on " + ip);
  }
  return socket;
}

Result<std::pair<UniqueFd, UniqueFd>> connect_spaces(const NetworkNamespaces& spaces, int a,
                                                     int b) {
  SHOAL_ASSIGN(const UniqueFd listening,
               within(spaces.descriptor(a), [&] { return listen_on(spaces.address(a)); }));
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    return system_failure("cannot read a port");
  const std::string address = fmt::format("{}:{}", spaces.address(a), ntohs(bound.sin_port));
  SHOAL_ASSIGN(UniqueFd dialled, within(spaces.descriptor(b), [&] {
                 return dial_tcp(address, Clock::now() + kConnectTimeout);
               }));
  UniqueFd accepted(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!accepted) return system_failure("cannot accept a connection");
  return std::pair(std::move(accepted), std::move(dialled));
}

}  // namespace

Result<LinkChoice> parse_link_choice(std::string_view text) {
  LinkChoice choice{.text = std::string(text)};
  if (text == "shm") return choice;
  if (text == "verbs") {
    choice.kind = LinkChoice::Kind::kVerbs;
    choice.mode = LinkMode::kTls;
    return choice;
  }
  if (text == "tcp" || text == "tls" || text == "plain") {
    choice.kind = LinkChoice::Kind::kTcp;
    choice.mode = text == "plain" ? LinkMode::kPlain : LinkMode::kTls;
    return choice;
  }
  if (text.starts_with(kEmulated)) {
    choice.emulated = text.substr(kEmulated.size());
    SHOAL_TRY(parse_link_model(choice.emulated));
    return choice;
  }
  return fail(ErrorCode::kInvalidArgument,
              "--link '{}' is not known; shm, tcp (with TLS), plain (TCP without), verbs and "
              "emulated:NAME are",
              text);
}

Result<std::vector<std::vector<LinkEnd>>> make_link_ends(int ranks, const LinkChoice& choice,
                                                         const NetworkNamespaces* spaces) {
  const auto count = static_cast<size_t>(ranks);
  std::vector<std::vector<LinkEnd>> ends(count);
  for (auto& row : ends) row.resize(count);
  for (size_t a = 0; a < count; ++a) {
    for (size_t b = a + 1; b < count; ++b) {
      if (choice.kind == LinkChoice::Kind::kShm) {
        SHOAL_ASSIGN(auto pair, make_shm_pair());
        ends[a][b] = {std::move(pair.first.socket), std::move(pair.first.memory)};
        ends[b][a] = {std::move(pair.second.socket), std::move(pair.second.memory)};
        continue;
      }
      auto sockets = spaces == nullptr
                         ? connected_tcp_pair()
                         : connect_spaces(*spaces, static_cast<int>(a), static_cast<int>(b));
      if (!sockets) return std::unexpected(sockets.error());
      ends[a][b].socket = std::move(sockets->first);
      ends[b][a].socket = std::move(sockets->second);
    }
  }
  return ends;
}

}  // namespace shoal::cli
