// The code of a machine that listens for benches: where it listens and the token that who benches
// there must prove. One line, "10.0.0.2:7470/TOKEN", so that a person sees which machine it is of.
// Pure but for new_token(); any thread. docs/formats/bench-ranks.md.
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace shoal::cli {

using MachineToken = std::array<std::byte, 16>;
MachineToken new_token();

struct MachineCode {
  std::string address;  // "host:port" or "[v6]:port"
  MachineToken token{};
};
std::string encode(const MachineCode& code);
// "CODE,CODE": kInvalidArgument for what is no code, and for two of one machine.
Result<std::vector<MachineCode>> decode_machine_codes(std::string_view text);

// The pre-shared key of the connection to who listens.
Bytes control_key(const MachineToken& token);

// "10.0.0.2:7470", "[fd00::2]:7470": a number, never a name. kInvalidArgument.
Result<boost::asio::ip::tcp::endpoint> parse_endpoint(std::string_view text);
std::string format_endpoint(const boost::asio::ip::tcp::endpoint& endpoint);

}  // namespace shoal::cli
