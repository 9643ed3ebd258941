// The command line's way to a daemon: its Unix socket in the node's home, or a host over HTTP.
// Blocking; one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/result.h"

namespace shoal::cli {

class Client {
 public:
  // `host` ("127.0.0.1:7465", "http://node:7465") or, when empty, the socket of the daemon of
  // `home`.
  Client(std::string home, std::string host, std::string api_key);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // kUnreachable when no daemon answers, saying how to start one. Errors of the daemon come back as
  // they were decided.
  Result<Json> get(const std::string& path);
  Result<Json> post(const std::string& path, const Json& body);
  // `on_line` gets each line as it arrives; a Ctrl-C (interrupt.h) ends the stream (kCancelled).
  Status stream(const std::string& path, const Json& body,
                const std::function<void(std::string_view)>& on_line);

  bool over_socket() const { return host_.empty(); }
  std::string where() const;  // for people

 private:
  struct Call;
  Status perform(Call& call);

  std::string socket_path_;
  std::string host_;
  std::string api_key_;
  void* curl_;
};

}  // namespace shoal::cli
