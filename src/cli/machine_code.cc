#include "cli/machine_code.h"

#include <algorithm>
#include <charconv>

namespace shoal::cli {
namespace {

using Endpoint = boost::asio::ip::tcp::endpoint;
constexpr size_t kLongestAddress = 255;

Result<MachineCode> decode_one(std::string_view word) {
  const size_t slash = word.rfind('/');
  const auto token = slash == std::string_view::npos ? Bytes() : from_hex(word.substr(slash + 1));
  MachineCode code;
  if (slash == std::string_view::npos || slash == 0 || slash > kLongestAddress || !token ||
      token->size() != code.token.size()) {
    return fail(ErrorCode::kInvalidArgument,
                "--at '{}' is no machine's code; `shoal bench ranks MODEL --listen ADDRESS:PORT` "
                "prints one on the other machine, such as 10.0.0.2:7470/ and 32 digits",
                word.substr(0, 60));
  }
  code.address = word.substr(0, slash);
  std::ranges::copy(*token, code.token.begin());
  return code;
}

}  // namespace

MachineToken new_token() {
  MachineToken token;
  std::ranges::copy(random_bytes(token.size()), token.begin());
  return token;
}

std::string encode(const MachineCode& code) {
  return code.address + "/" + to_hex(code.token);
}

Result<std::vector<MachineCode>> decode_machine_codes(std::string_view text) {
  std::vector<MachineCode> codes;
  for (std::string_view rest = text;;) {
    const size_t comma = std::min(rest.find(','), rest.size());
    SHOAL_ASSIGN(MachineCode code, decode_one(rest.substr(0, comma)));
    for (const MachineCode& other : codes) {
      if (other.address != code.address && other.token != code.token) continue;
      return fail(ErrorCode::kInvalidArgument,
                  "--at names {} twice; each code is of one machine, which runs one rank",
                  code.address);
    }
    codes.push_back(std::move(code));
    if (comma == rest.size()) return codes;
    rest.remove_prefix(comma + 1);
  }
}

Bytes control_key(const MachineToken& token) {
  return hmac_sha256(token, as_bytes("shoal bench ranks"));
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  const auto wrong = [&] {
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is not an address and a port, such as 10.0.0.2:7470 or [fd00::2]:7470",
                text.substr(0, kLongestAddress));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong();
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size()) return wrong();
  boost::system::error_code unknown;
  const auto address = boost::asio::ip::make_address(std::string(host), unknown);
  if (unknown || address.is_v6() != bracketed) return wrong();
  return Endpoint(address, port);
}

std::string format_endpoint(const Endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  if (endpoint.address().is_v6()) return fmt::format("[{}]:{}", host, endpoint.port());
  return fmt::format("{}:{}", host, endpoint.port());
}

}  // namespace shoal::cli
