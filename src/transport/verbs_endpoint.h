// VerbsEndpoint: one end's RDMA objects (device, protection domain, memory, completion queue, queue
// pair) and the slabs that pieces travel in. Owned and used by one link, by its one thread. Knows
// nothing of frames. Nothing here blocks. Private to this module.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"
#include "transport/verbs_api.h"
#include "transport/verbs_hello.h"
#include "transport/verbs_link.h"

namespace shoal {

class VerbsEndpoint {
 public:
  // Opens the device, makes the queue pair and posts every receive: a peer that knows the hello
  // overruns nobody. Checks `options` (kInvalidArgument).
  static Result<std::unique_ptr<VerbsEndpoint>> open(const VerbsApi& api,
                                                     const VerbsOptions& options);
  ~VerbsEndpoint();
  VerbsEndpoint(const VerbsEndpoint&) = delete;
  VerbsEndpoint& operator=(const VerbsEndpoint&) = delete;

  const VerbsHello& hello() const { return hello_; }
  const std::string& device() const { return device_; }  // "mlx5_0 port 1"
  // To the state in which pieces are received and sent. Both ends, before the first send().
  Status connect(const VerbsHello& peer);

  uint32_t slabs() const { return options_.slabs; }
  std::span<std::byte> send_slab(uint32_t index) { return slab(options_.slabs + index); }
  std::span<const std::byte> receive_slab(uint32_t index) { return slab(index); }
  // Queues the first `bytes` of a slab; the slab is the card's until poll() says it is done.
  Status send(uint32_t index, size_t bytes);
  Status receive(uint32_t index);  // gives a slab to the card, to be filled

  struct Completion {
    enum { kNone, kSent, kReceived } what;
    uint32_t slab;
    uint32_t bytes;  // received
  };
  // The next thing that the card has done. kUnreachable: it could not; the queue pair is spent.
  Result<Completion> poll();

  // Waiting without spinning. After arm(), the channel's descriptor becomes readable when the card
  // does something; disarmed() takes such a signal, false when there is none. -1: the library has
  // no channels.
  int channel_descriptor() const { return channel_ ? channel_->fd : -1; }
  Status arm();
  Result<bool> disarmed();

 private:
  VerbsEndpoint(const VerbsApi& api, const VerbsOptions& options) : api_(api), options_(options) {}
  std::span<std::byte> slab(uint32_t index) {
    return {memory_.get() + size_t{index} * options_.slab_bytes, options_.slab_bytes};
  }
  Status find_device();
  Status try_device(ibv_device* device);
  Status find_address(const ibv_port_attr& port);
  Status register_slabs();
  Status make_queues();
  Status initialise();
  std::unexpected<Error> refused(std::string_view what, int error_number) const;

  struct FreeMemory {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  const VerbsApi& api_;
  VerbsOptions options_;
  std::string device_ = "RDMA";
  VerbsHello hello_;
  uint8_t gid_index_ = 0;
  std::unique_ptr<std::byte, FreeMemory> memory_;
  ibv_context* context_ = nullptr;
  ibv_pd* domain_ = nullptr;
  ibv_mr* region_ = nullptr;
  ibv_comp_channel* channel_ = nullptr;
  ibv_cq* completions_ = nullptr;
  ibv_qp* pair_ = nullptr;
};

}  // namespace shoal
