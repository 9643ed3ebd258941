// The HTTP API that people's tools speak: OpenAI's chat completions, completions and models, and
// /health. Everything on the thread of the server's loop. A request is checked here (who may ask,
// what is asked), turned into GenerateRequests, and the events that answer them are written in the
// dialect of the question.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "http/http.h"
#include "supervise/protocol.h"

namespace shoal::api {

namespace asio = boost::asio;

// The events that answer one GenerateRequest: kAccepted, kToken..., kDone; kError ends it wherever
// it comes.
class EventStream {
 public:
  virtual ~EventStream() = default;  // before the last event: as cancel()
  // Not called again after kDone or kError, nor while a call is under way.
  virtual asio::awaitable<Event> next() = 0;
  // The client has gone: work stops, and a next() under way or to come soon returns kError with
  // kCancelled. May be called at any time, more than once.
  virtual void cancel() = 0;
};

struct ModelEntry {
  std::string id;         // "smollm2:135m"
  int64_t created_s = 0;  // since 1970
  std::string owned_by = "shoal";
  std::string state;  // "ready", "loading", "on disk", ...
};

// What the daemon puts behind the API.
class ApiBackend {
 public:
  virtual ~ApiBackend() = default;
  // kNotFound for a model that is not there, kBusy, kDoesNotFit...; a prompt that is too long is
  // told as the stream's first event, kError with kContextLength.
  virtual asio::awaitable<Result<std::unique_ptr<EventStream>>> start(GenerateRequest request) = 0;
  virtual std::vector<ModelEntry> models() = 0;
  virtual Json health() = 0;  // an object; shown whole to those who may use the API
};

struct ApiOptions {
  std::string listen_host =
      "127.0.0.1";  // besides loopback, the name by which this server may be called
  std::vector<std::string> allowed_hosts;  // more such names (the machine's own on a network)
  std::string api_key;                     // empty: none is asked for
};

class Api {
 public:
  Api(ApiBackend& backend, ApiOptions options);  // `backend` outlives it
  // For http::listen_tcp and http::listen_unix. A connection over the Unix socket needs neither key
  // nor Host: its mode already says who may open it.
  asio::awaitable<void> handle(http::Exchange& exchange);

 private:
  ApiBackend& backend_;
  ApiOptions options_;
};

}  // namespace shoal::api
