#include "cluster/data_port.h"

#include <fcntl.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>

namespace shoal::cluster {
namespace {

namespace asio = boost::asio;
using Stream = asio::posix::stream_descriptor;
constexpr std::chrono::seconds kPreambleTime{2};
constexpr size_t kMostWaiting = 64;

}  // namespace

struct DataPort::State {
  State(asio::io_context& io, Handler handle) : loop(io), handler(std::move(handle)) {}

  asio::io_context& loop;
  Handler handler;
  std::list<std::shared_ptr<Stream>> waiting;
  bool closed = false;

  static asio::awaitable<void> read_preamble(std::shared_ptr<State> self, UniqueFd socket) {
    boost::system::error_code error;
    const auto stream = std::make_shared<Stream>(self->loop);
    stream->assign(socket.get(), error);
    if (error) co_return;
    (void)socket.release();
    const auto seat = self->waiting.insert(self->waiting.end(), stream);
    asio::steady_timer timer(self->loop, kPreambleTime);
    timer.async_wait([stream](const boost::system::error_code& cancelled) {
      boost::system::error_code ignored;
      if (!cancelled) stream->close(ignored);
    });
    std::array<std::byte, kPreambleBytes> bytes{};
    co_await asio::async_read(*stream, asio::buffer(bytes),
                              asio::redirect_error(asio::use_awaitable, error));
    self->waiting.erase(seat);
    // A timer that cannot be cancelled any more is about to close the socket.
    if (timer.cancel() == 0 || error || self->closed) co_return;
    const auto preamble = decode_preamble(bytes);
    if (!preamble) co_return;
    UniqueFd out(stream->release());
    ::fcntl(out.get(), F_SETFL, ::fcntl(out.get(), F_GETFL) & ~O_NONBLOCK);
    self->handler(*preamble, std::move(out));
  }
};

DataPort::DataPort(asio::io_context& loop, Handler handler)
    : state_(std::make_shared<State>(loop, std::move(handler))) {}

DataPort::~DataPort() {
  state_->closed = true;
  for (const auto& stream : state_->waiting) {
    boost::system::error_code ignored;
    stream->close(ignored);
  }
}

void DataPort::accept(UniqueFd socket) {
  if (state_->closed || state_->waiting.size() >= kMostWaiting) return;
  asio::co_spawn(state_->loop, State::read_preamble(state_, std::move(socket)), asio::detached);
}

}  // namespace shoal::cluster
