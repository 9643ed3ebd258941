// Network namespaces for the ranks that one command starts on this machine. Any thread, one at a
// time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace shoal::cli {

// Network namespaces of this process's own, one per rank, on one Ethernet bridge; gone with this
// object. Making some removes those of processes that were killed before they could. Needs root and
// the `ip` command, and `tc` for a rate.
class NetworkNamespaces {
 public:
  // `rate`: what each end may send, as tc writes it ("1gbit"); empty: all it can.
  static Result<std::unique_ptr<NetworkNamespaces>> create(int count, const std::string& rate);
  ~NetworkNamespaces();
  int descriptor(int rank) const { return spaces_[static_cast<size_t>(rank)].get(); }
  std::string address(int rank) const;

 private:
  NetworkNamespaces() = default;
  Status add(int rank, const std::string& rate);

  std::string prefix_;  // of the names: this process's number and start
  std::vector<std::string> names_;
  std::vector<UniqueFd> spaces_;
};

}  // namespace shoal::cli
