#include "transport/verbs_endpoint.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <system_error>

#include "transport/socket.h"

namespace shoal {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr int kMostGids = 256;  // an index has eight bits
// work-request ids: the slab's index, and this for sends.
constexpr uint64_t kSendFlag = 1ull << 32;

// RC: a packet is repeated after 4.096 us x 2^14 = 67 ms, seven times: a dead path is an error
// within the two seconds that ranks give each other.
constexpr uint8_t kAckTimeout = 14;
constexpr uint8_t kRetries = 7;
// Receives are posted before grants are given, so "receiver not ready" is a bug, not a wait.
constexpr uint8_t kReceiverNotReadyRetries = 3;
constexpr uint8_t kReceiverNotReadyTimer = 12;  // 0.64 ms
constexpr uint8_t kHopLimit = 64;
// Apple's cards connect unreliable pairs with no other.
constexpr uint8_t kUnreliableMtu = IBV_MTU_1024;

// Most functions return an errno; of some providers -1, with errno set.
std::string reason(int error_number) {
  if (error_number < 0) error_number = errno;
  return error_number == 0 ? "no reason given" : std::generic_category().message(error_number);
}

// How far packets to such a GID go; 0: not usable. A mapped IPv4 address or a global one is routed,
// a link-local one reaches the neighbours.
int reach(const ibv_gid& gid) {
  const auto* raw = gid.raw;
  const bool zero_subnet = std::all_of(raw, raw + 10, [](uint8_t byte) { return byte == 0; });
  if (zero_subnet && raw[10] == 0xff && raw[11] == 0xff) return 3;
  const bool empty_end = std::all_of(raw + 8, raw + 16, [](uint8_t byte) { return byte == 0; });
  if (empty_end) return 0;
  if (raw[0] == 0xfe && (raw[1] & 0xc0) == 0x80) return 1;
  return 2;
}

}  // namespace

std::unexpected<Error> VerbsEndpoint::refused(std::string_view what, int error_number) const {
  return fail(ErrorCode::kUnsupported, "{}: cannot {}: {}", device_, what, reason(error_number));
}

Result<std::unique_ptr<VerbsEndpoint>> VerbsEndpoint::open(const VerbsApi& api,
                                                           const VerbsOptions& options) {
  using Limits = VerbsOptions;
  if (options.slab_bytes < Limits::kSmallestSlab || options.slab_bytes > Limits::kLargestSlab ||
      options.slabs < Limits::kFewestSlabs || options.slabs > Limits::kMostSlabs) {
    return fail(ErrorCode::kInvalidArgument,
                "{} slabs of {} bytes: an RDMA link has {} to {} of {} to {}", options.slabs,
                options.slab_bytes, Limits::kFewestSlabs, Limits::kMostSlabs, Limits::kSmallestSlab,
                Limits::kLargestSlab);
  }
  std::unique_ptr<VerbsEndpoint> endpoint(new VerbsEndpoint(api, options));
  SHOAL_TRY(endpoint->find_device());
  SHOAL_TRY(endpoint->register_slabs());
  SHOAL_TRY(endpoint->make_queues());
  SHOAL_TRY(endpoint->initialise());
  VerbsHello& hello = endpoint->hello_;
  hello.able = true;
  hello.kind = options.kind;
  hello.receives = static_cast<uint16_t>(options.slabs);
  hello.slab_bytes = options.slab_bytes;
  hello.queue_pair = endpoint->pair_->qp_num;
  // Not predictable, so that packets of an earlier life of the same pair are not taken for ours.
  uint32_t drawn = 0;
  const Bytes random = random_bytes(sizeof drawn);
  std::memcpy(&drawn, random.data(), sizeof drawn);
  hello.packet_number = drawn & 0xffffff;
  return endpoint;
}

// In the order of need: nothing is freed under what still uses it.
VerbsEndpoint::~VerbsEndpoint() {
  if (pair_) api_.destroy_qp(pair_);
  if (completions_) api_.destroy_cq(completions_);
  if (channel_) api_.destroy_comp_channel(channel_);
  if (region_) api_.dereg_mr(region_);
  if (domain_) api_.dealloc_pd(domain_);
  if (context_) api_.close_device(context_);
}

Status VerbsEndpoint::find_device() {
  int count = 0;
  ibv_device** const devices = api_.get_device_list(&count);
  if (devices == nullptr || count <= 0) {
    const int error_number = devices ? 0 : errno;
    if (devices) api_.free_device_list(devices);
    return fail(ErrorCode::kUnsupported,
                "this machine has no RDMA device{}: load its driver (ib_uverbs and the card's), or "
                "use another kind of link",
                error_number ? fmt::format(" ({})", reason(error_number)) : "");
  }
  std::string names;
  std::optional<Error> first_error;
  bool found = false;
  for (int i = 0; i < count && !found; ++i) {
    const char* const name = api_.get_device_name(devices[i]);
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
    if (!options_.device.empty() && options_.device != name) continue;
    const Status tried = try_device(devices[i]);
    found = tried.has_value();
    if (!found && !first_error) first_error = tried.error();
  }
  api_.free_device_list(devices);
  if (found) return {};
  if (first_error) return std::unexpected(*first_error);
  return fail(ErrorCode::kNotFound, "there is no RDMA device '{}'; this machine has {}",
              options_.device, names);
}

Status VerbsEndpoint::try_device(ibv_device* device) {
  device_ = fmt::format("{} port {}", api_.get_device_name(device), options_.port);
  context_ = api_.open_device(device);
  if (context_ == nullptr) return refused("open it (is /dev/infiniband readable?)", errno);
  const Status usable = [&]() -> Status {
    ibv_port_attr port{};
    if (const int error = api_.query_port(context_, options_.port,
                                          reinterpret_cast<_compat_ibv_port_attr*>(&port)))
      return refused("look at the port", error);
    if (port.state != IBV_PORT_ACTIVE) {
      return fail(ErrorCode::kUnsupported,
                  "{} is not active (state {}): is the cable in, and its network up?", device_,
                  static_cast<int>(port.state));
    }
    if (port.active_mtu < IBV_MTU_256 || port.active_mtu > IBV_MTU_4096) {
      return fail(ErrorCode::kUnsupported, "{} has an MTU of code {}, which is none", device_,
                  static_cast<int>(port.active_mtu));
    }
    hello_.path_mtu = static_cast<uint8_t>(port.active_mtu);
    if (options_.kind == QueuePairKind::kUnreliable)
      hello_.path_mtu = std::min(hello_.path_mtu, kUnreliableMtu);
    hello_.lid = port.lid;
    return find_address(port);
  }();
  if (usable) return {};
  api_.close_device(context_);
  context_ = nullptr;
  return usable;
}

// Among the addresses of the port the one of the routable kind (RoCE v2) that reaches furthest; the
// first of equals.
Status VerbsEndpoint::find_address(const ibv_port_attr& port) {
  const int count = std::clamp(port.gid_tbl_len, 0, kMostGids);
  int best = 0;
  for (int i = 0; i < count; ++i) {
    if (options_.gid_index >= 0 && i != options_.gid_index) continue;
    ibv_gid gid{};
    if (api_.query_gid(context_, options_.port, i, &gid) != 0) continue;
    int score = reach(gid);
    if (score == 0) continue;
    ibv_gid_entry entry{};
    if (api_.query_gid_ex && api_.query_gid_ex(context_, options_.port, static_cast<uint32_t>(i),
                                               &entry, 0, sizeof entry) == 0) {
      score += entry.gid_type == IBV_GID_TYPE_ROCE_V2 ? 8 : 4;
    }
    if (score <= best) continue;
    best = score;
    gid_index_ = static_cast<uint8_t>(i);
    std::memcpy(hello_.gid.data(), gid.raw, hello_.gid.size());
  }
  if (best > 0) return {};
  if (options_.gid_index >= 0) {
    return fail(ErrorCode::kUnsupported, "{} has no address (GID) {}; it has a table of {}",
                device_, options_.gid_index, count);
  }
  return fail(ErrorCode::kUnsupported,
              "{} has no address (GID): give its network interface an IP address", device_);
}

Status VerbsEndpoint::register_slabs() {
  const size_t bytes = size_t{2} * options_.slabs * options_.slab_bytes;
  const size_t rounded = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, rounded)));
  if (!memory_) return fail(ErrorCode::kDoesNotFit, "no memory for {} bytes of slabs", rounded);
  std::memset(memory_.get(), 0, rounded);
  domain_ = api_.alloc_pd(context_);
  if (domain_ == nullptr) return refused("make a protection domain", errno);
  // Local only: no card may write here except into a posted receive.
  region_ = api_.reg_mr(domain_, memory_.get(), rounded, IBV_ACCESS_LOCAL_WRITE);
  if (region_ == nullptr) {
    return refused(fmt::format("pin {} bytes of memory (see `ulimit -l`)", rounded), errno);
  }
  return {};
}

Status VerbsEndpoint::make_queues() {
  if (api_.has_channels()) channel_ = api_.create_comp_channel(context_);
  if (channel_) SHOAL_TRY(set_nonblocking(channel_->fd));
  const auto slabs = options_.slabs;
  completions_ = api_.create_cq(context_, static_cast<int>(2 * slabs), nullptr, channel_, 0);
  if (completions_ == nullptr) return refused("make a completion queue", errno);
  ibv_qp_init_attr wanted{};
  wanted.send_cq = completions_;
  wanted.recv_cq = completions_;
  wanted.cap = {.max_send_wr = slabs,
                .max_recv_wr = slabs,
                .max_send_sge = 1,
                .max_recv_sge = 1,
                .max_inline_data = 0};
  const bool reliable = options_.kind == QueuePairKind::kReliable;
  wanted.qp_type = reliable ? IBV_QPT_RC : IBV_QPT_UC;
  wanted.sq_sig_all = 1;
  pair_ = api_.create_qp(domain_, &wanted);
  if (pair_ == nullptr) {
    return refused(reliable ? "make a reliable queue pair (RC)"
                            : "make an unreliable connected queue pair (UC)",
                   errno);
  }
  return {};
}

Status VerbsEndpoint::initialise() {
  ibv_qp_attr wanted{};
  wanted.qp_state = IBV_QPS_INIT;
  wanted.port_num = options_.port;
  const int given = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
  if (const int error = api_.modify_qp(pair_, &wanted, given))
    return refused("initialise the queue pair", error);
  for (uint32_t i = 0; i < options_.slabs; ++i) SHOAL_TRY(receive(i));
  return {};
}

Status VerbsEndpoint::connect(const VerbsHello& peer) {
  const bool reliable = options_.kind == QueuePairKind::kReliable;
  ibv_qp_attr wanted{};
  wanted.qp_state = IBV_QPS_RTR;
  wanted.path_mtu = static_cast<ibv_mtu>(std::min(hello_.path_mtu, peer.path_mtu));
  wanted.dest_qp_num = peer.queue_pair;
  wanted.rq_psn = peer.packet_number;
  wanted.ah_attr.is_global = 1;
  std::memcpy(wanted.ah_attr.grh.dgid.raw, peer.gid.data(), peer.gid.size());
  wanted.ah_attr.grh.sgid_index = gid_index_;
  wanted.ah_attr.grh.hop_limit = kHopLimit;
  wanted.ah_attr.dlid = peer.lid;
  wanted.ah_attr.port_num = options_.port;
  wanted.max_dest_rd_atomic = 1;
  wanted.min_rnr_timer = kReceiverNotReadyTimer;
  int given = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  if (reliable) given |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  if (const int error = api_.modify_qp(pair_, &wanted, given))
    return refused("point the queue pair at the peer's (is its address reachable from here?)",
                   error);
  wanted = {};
  wanted.qp_state = IBV_QPS_RTS;
  wanted.sq_psn = hello_.packet_number;
  wanted.timeout = kAckTimeout;
  wanted.retry_cnt = kRetries;
  wanted.rnr_retry = kReceiverNotReadyRetries;
  wanted.max_rd_atomic = 1;
  given = IBV_QP_STATE | IBV_QP_SQ_PSN;
  if (reliable)
    given |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
  if (const int error = api_.modify_qp(pair_, &wanted, given))
    return refused("make the queue pair ready to send", error);
  return {};
}

Status VerbsEndpoint::send(uint32_t index, size_t bytes) {
  const auto from = send_slab(index).first(bytes);
  ibv_sge part{reinterpret_cast<uintptr_t>(from.data()), static_cast<uint32_t>(bytes),
               region_->lkey};
  ibv_send_wr request{};
  request.wr_id = kSendFlag | index;
  request.sg_list = &part;
  request.num_sge = 1;
  request.opcode = IBV_WR_SEND;
  request.send_flags = IBV_SEND_SIGNALED;
  ibv_send_wr* bad = nullptr;
  if (const int error = ibv_post_send(pair_, &request, &bad)) return refused("send", error);
  return {};
}

Status VerbsEndpoint::receive(uint32_t index) {
  const auto to = slab(index);
  ibv_sge part{reinterpret_cast<uintptr_t>(to.data()), options_.slab_bytes, region_->lkey};
  ibv_recv_wr request{};
  request.wr_id = index;
  request.sg_list = &part;
  request.num_sge = 1;
  ibv_recv_wr* bad = nullptr;
  if (const int error = ibv_post_recv(pair_, &request, &bad))
    return refused("post a receive", error);
  return {};
}

Result<VerbsEndpoint::Completion> VerbsEndpoint::poll() {
  ibv_wc done{};
  const int count = ibv_poll_cq(completions_, 1, &done);
  if (count == 0) return Completion{Completion::kNone, 0, 0};
  if (count != 1) return refused("read the completion queue", count < 0 ? count : 0);
  if (done.status != IBV_WC_SUCCESS) {
    return fail(ErrorCode::kUnreachable, "{} could not {}: {} (status {})", device_,
                done.wr_id & kSendFlag ? "send" : "receive",
                api_.wc_status_str ? api_.wc_status_str(done.status) : "the queue pair failed",
                static_cast<int>(done.status));
  }
  const bool sent = done.wr_id & kSendFlag;
  const uint64_t index = done.wr_id & ~kSendFlag;
  if (index >= options_.slabs || (!sent && done.byte_len > options_.slab_bytes)) {
    return fail(ErrorCode::kIo, "{} completed a request that was never made (id {}, {} bytes)",
                device_, done.wr_id, done.byte_len);
  }
  return Completion{sent ? Completion::kSent : Completion::kReceived, static_cast<uint32_t>(index),
                    sent ? 0 : done.byte_len};
}

Status VerbsEndpoint::arm() {
  if (const int error = ibv_req_notify_cq(completions_, 0))
    return refused("wait for completions", error);
  return {};
}

Result<bool> VerbsEndpoint::disarmed() {
  ibv_cq* signalled = nullptr;
  void* unused = nullptr;
  if (api_.get_cq_event(channel_, &signalled, &unused) != 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return false;
    return refused("read the completion channel", errno);
  }
  // Destroying a queue waits for every signal to be acknowledged.
  api_.ack_cq_events(signalled, 1);
  return true;
}

}  // namespace shoal
