// Which addresses a node tells the others. Setup path; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shoal::cluster {

// Of "0.0.0.0:7466" or "[::]:7466" the addresses of all interfaces that are up, without loopback
// (unless there is nothing else), link-local ones and those of container bridges; of any other the
// address itself. `port` replaces a port of 0.
std::vector<std::string> advertised_addresses(const std::string& listen, uint16_t port);

// "10.0.0.2:51234" and "10.0.0.7:7466" -> "10.0.0.2:7466": where a peer that dials from behind
// another address may be reached. Empty when either is not host:port.
std::string observed_address(const std::string& seen_from, const std::string& advertised);

}  // namespace shoal::cluster
