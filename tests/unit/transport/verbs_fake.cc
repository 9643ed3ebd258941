#include "verbs_fake.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>

namespace shoal {
namespace {

FakeFabric* current = nullptr;

struct FakeChannel : ibv_comp_channel {
  int write_end = -1;
  int unacknowledged = 0;
};

struct FakeQueue : ibv_cq {
  std::deque<ibv_wc> done;
  size_t capacity = 0;
  bool armed = false;
  int unacknowledged = 0;
};

struct FakePair : ibv_qp {
  ibv_qp_cap limits{};
  std::deque<ibv_recv_wr> receives;
  std::deque<ibv_sge> receive_parts;
  int sends_not_polled = 0;
  int receives_not_polled = 0;
  uint32_t peer = 0;
};

}  // namespace

struct FakeFabric::State {
  std::mutex mutex;
  std::vector<ibv_device> devices = std::vector<ibv_device>(4);
  std::set<void*> contexts;
  std::set<void*> domains;
  std::map<uint32_t, ibv_mr*> regions;
  std::set<void*> queues;
  std::set<void*> channels;
  std::map<uint32_t, FakePair*> pairs;
  uint32_t next_number = 0x11;
  int sends = 0;
  int overruns = 0;
  int most_outstanding = 0;
  int armed = 0;
};

namespace {

std::unique_lock<std::mutex> lock() {
  return std::unique_lock(current->state().mutex);
}

ibv_device** get_device_list(int* count) {
  const auto held = lock();
  *count = current->faults.devices;
  auto** list = new ibv_device*[5]{};
  for (int i = 0; i < *count; ++i) {
    list[i] = &current->state().devices[static_cast<size_t>(i)];
  }
  return list;
}
void free_device_list(ibv_device** list) {
  delete[] list;
}
const char* get_device_name(ibv_device* device) {
  return device->name;
}

int query_port(ibv_context*, uint8_t port, _compat_ibv_port_attr* attributes) {
  if (port != 1) return EINVAL;
  auto* to = reinterpret_cast<ibv_port_attr*>(attributes);
  to->state = current->faults.active ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
  to->active_mtu = IBV_MTU_4096;
  to->gid_tbl_len = 4;
  return 0;
}

// 0: link-local, 1: an IPv4 address as RoCE v1, 2: the same as RoCE v2, 3: empty.
int query_gid(ibv_context*, uint8_t, int index, ibv_gid* gid) {
  *gid = {};
  if (!current->faults.address || index == 3) return 0;
  if (index == 0) {
    gid->raw[0] = 0xfe;
    gid->raw[1] = 0x80;
    gid->raw[15] = 1;
  } else {
    const uint8_t mapped[] = {0xff, 0xff, 10, 0, 0, 1};
    std::ranges::copy(mapped, gid->raw + 10);
  }
  return 0;
}
int query_gid_ex(ibv_context*, uint32_t, uint32_t index, ibv_gid_entry* entry, uint32_t, size_t) {
  entry->gid_type = index == 2 ? IBV_GID_TYPE_ROCE_V2 : IBV_GID_TYPE_ROCE_V1;
  return 0;
}

ibv_pd* alloc_pd(ibv_context* context) {
  const auto held = lock();
  auto* domain = new ibv_pd{context, 0};
  current->state().domains.insert(domain);
  return domain;
}
int dealloc_pd(ibv_pd* domain) {
  const auto held = lock();
  EXPECT_EQ(current->state().domains.erase(domain), 1u);
  delete domain;
  return 0;
}

ibv_mr* reg_mr(ibv_pd* domain, void* address, size_t bytes, int access) {
  const auto held = lock();
  EXPECT_EQ(access, IBV_ACCESS_LOCAL_WRITE);
  if (bytes > current->faults.pinnable_bytes) {
    errno = ENOMEM;
    return nullptr;
  }
  auto* region = new ibv_mr{};
  region->pd = domain;
  region->addr = address;
  region->length = bytes;
  region->lkey = current->state().next_number++;
  current->state().regions[region->lkey] = region;
  return region;
}
int dereg_mr(ibv_mr* region) {
  const auto held = lock();
  EXPECT_EQ(current->state().regions.erase(region->lkey), 1u);
  delete region;
  return 0;
}

ibv_comp_channel* create_comp_channel(ibv_context* context) {
  const auto held = lock();
  if (!current->faults.channels) {
    errno = ENOSYS;
    return nullptr;
  }
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  auto* channel = new FakeChannel{};
  channel->context = context;
  channel->fd = ends[0];
  channel->write_end = ends[1];
  current->state().channels.insert(channel);
  return channel;
}
int destroy_comp_channel(ibv_comp_channel* channel) {
  const auto held = lock();
  EXPECT_EQ(current->state().channels.erase(channel), 1u);
  ::close(channel->fd);
  ::close(static_cast<FakeChannel*>(channel)->write_end);
  delete static_cast<FakeChannel*>(channel);
  return 0;
}
int get_cq_event(ibv_comp_channel* channel, ibv_cq** queue, void** context) {
  FakeQueue* signalled = nullptr;
  if (::read(channel->fd, &signalled, sizeof signalled) != sizeof signalled) return -1;
  *queue = signalled;
  *context = nullptr;
  return 0;
}
void ack_cq_events(ibv_cq* queue, unsigned count) {
  const auto held = lock();
  static_cast<FakeQueue*>(queue)->unacknowledged -= static_cast<int>(count);
}

ibv_cq* create_cq(ibv_context* context, int entries, void*, ibv_comp_channel* channel, int) {
  const auto held = lock();
  auto* queue = new FakeQueue{};
  queue->context = context;
  queue->channel = channel;
  queue->capacity = static_cast<size_t>(entries);
  current->state().queues.insert(queue);
  return queue;
}
// The real one waits for signals that were taken and not acknowledged: here that fails the test.
int destroy_cq(ibv_cq* queue) {
  const auto held = lock();
  auto* fake = static_cast<FakeQueue*>(queue);
  EXPECT_EQ(current->state().queues.erase(fake), 1u);
  EXPECT_LE(fake->unacknowledged, 1);  // one may be in the channel still
  delete fake;
  return 0;
}

void complete(FakeQueue& queue, const ibv_wc& done) {
  EXPECT_LT(queue.done.size(), queue.capacity) << "the completion queue overflows";
  queue.done.push_back(done);
  if (!queue.armed || queue.channel == nullptr) return;
  queue.armed = false;
  ++queue.unacknowledged;
  FakeQueue* signalled = &queue;
  EXPECT_EQ(
      ::write(static_cast<FakeChannel*>(queue.channel)->write_end, &signalled, sizeof signalled),
      static_cast<ssize_t>(sizeof signalled));
}

ibv_qp* create_qp(ibv_pd* domain, ibv_qp_init_attr* wanted) {
  const auto held = lock();
  EXPECT_TRUE(wanted->qp_type == IBV_QPT_RC || wanted->qp_type == IBV_QPT_UC);
  if (wanted->qp_type == IBV_QPT_UC && !current->faults.unreliable) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  auto* pair = new FakePair{};
  pair->context = domain->context;
  pair->pd = domain;
  pair->send_cq = wanted->send_cq;
  pair->recv_cq = wanted->recv_cq;
  pair->qp_type = wanted->qp_type;
  pair->limits = wanted->cap;
  pair->state = IBV_QPS_RESET;
  pair->qp_num = current->state().next_number++;
  current->state().pairs[pair->qp_num] = pair;
  return pair;
}

// The attributes that each step must have, as the InfiniBand specification lists them.
int needed(ibv_qp_state to, bool reliable) {
  switch (to) {
    case IBV_QPS_INIT:
      return IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
    case IBV_QPS_RTR:
      return IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
             (reliable ? IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER : 0);
    case IBV_QPS_RTS:
      return IBV_QP_STATE | IBV_QP_SQ_PSN |
             (reliable
                  ? IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC
                  : 0);
    default:
      return -1;
  }
}

int modify_qp(ibv_qp* pair, ibv_qp_attr* wanted, int given) {
  const auto held = lock();
  const bool reliable = pair->qp_type == IBV_QPT_RC;
  if (given != needed(wanted->qp_state, reliable)) return EINVAL;
  const bool in_order = wanted->qp_state == pair->state + 1;
  if (!in_order) return EINVAL;
  if (wanted->qp_state == IBV_QPS_RTR) {
    if (!reliable && wanted->path_mtu != IBV_MTU_1024) return EINVAL;
    if (wanted->ah_attr.grh.sgid_index != (current->faults.gid_types ? 2 : 1)) return EINVAL;
    static_cast<FakePair*>(pair)->peer = wanted->dest_qp_num;
  }
  pair->state = wanted->qp_state;
  return 0;
}
int destroy_qp(ibv_qp* pair) {
  const auto held = lock();
  EXPECT_EQ(current->state().pairs.erase(pair->qp_num), 1u);
  delete static_cast<FakePair*>(pair);
  return 0;
}

std::span<std::byte> memory_of(const ibv_sge& part) {
  const auto found = current->state().regions.find(part.lkey);
  if (found == current->state().regions.end()) return {};
  const auto begin = reinterpret_cast<uintptr_t>(found->second->addr);
  if (part.addr < begin || part.addr + part.length > begin + found->second->length) return {};
  return {reinterpret_cast<std::byte*>(part.addr), part.length};
}

void note_outstanding(const FakePair& pair) {
  const int now = pair.sends_not_polled + pair.receives_not_polled;
  int& most = current->state().most_outstanding;
  most = std::max(most, now);
}

int post_recv(ibv_qp* to, ibv_recv_wr* request, ibv_recv_wr** bad) {
  const auto held = lock();
  auto& pair = *static_cast<FakePair*>(to);
  *bad = request;
  if (pair.state == IBV_QPS_RESET || request->num_sge != 1) return EINVAL;
  if (pair.receives_not_polled >= static_cast<int>(pair.limits.max_recv_wr)) return ENOMEM;
  if (memory_of(*request->sg_list).empty()) return EINVAL;
  ++pair.receives_not_polled;
  pair.receives.push_back(*request);
  pair.receive_parts.push_back(*request->sg_list);
  note_outstanding(pair);
  return 0;
}

// Carries a piece over; the status with which the send completes.
ibv_wc_status deliver(const FakePair& from, std::span<const std::byte> piece, int number) {
  const FakeFaults& faults = current->faults;
  const bool reliable = from.qp_type == IBV_QPT_RC;
  if (number == faults.fail_send_at) return IBV_WC_RETRY_EXC_ERR;
  if (faults.mute || number == faults.lose_at) return IBV_WC_SUCCESS;
  const auto found = current->state().pairs.find(from.peer);
  if (found == current->state().pairs.end() || found->second->state < IBV_QPS_RTR ||
      found->second->peer != from.qp_num)
    return reliable ? IBV_WC_RETRY_EXC_ERR : IBV_WC_SUCCESS;
  FakePair& to = *found->second;
  if (to.receives.empty()) {
    ++current->state().overruns;
    return reliable ? IBV_WC_RNR_RETRY_EXC_ERR : IBV_WC_SUCCESS;
  }
  const auto room = memory_of(to.receive_parts.front());
  ibv_wc arrived{};
  arrived.wr_id = to.receives.front().wr_id;
  arrived.qp_num = to.qp_num;
  arrived.opcode = IBV_WC_RECV;
  arrived.byte_len = static_cast<uint32_t>(piece.size());
  to.receives.pop_front();
  to.receive_parts.pop_front();
  if (piece.size() > room.size()) {
    arrived.status = IBV_WC_LOC_LEN_ERR;
  } else {
    std::ranges::copy(piece, room.begin());
    if (faults.tamper) faults.tamper(room.first(piece.size()));
  }
  complete(*static_cast<FakeQueue*>(to.recv_cq), arrived);
  return IBV_WC_SUCCESS;
}

int post_send(ibv_qp* from, ibv_send_wr* request, ibv_send_wr** bad) {
  const auto held = lock();
  auto& pair = *static_cast<FakePair*>(from);
  *bad = request;
  const int number = current->state().sends++;
  if (number == current->faults.fail_post_send_at) return ENOMEM;
  if (pair.state != IBV_QPS_RTS || request->opcode != IBV_WR_SEND) return EINVAL;
  if (request->num_sge != 1 || request->next != nullptr) return EINVAL;
  if (pair.sends_not_polled >= static_cast<int>(pair.limits.max_send_wr)) return ENOMEM;
  const auto piece = memory_of(*request->sg_list);
  if (piece.empty()) return EINVAL;
  ++pair.sends_not_polled;
  note_outstanding(pair);
  ibv_wc done{};
  done.wr_id = request->wr_id;
  done.qp_num = pair.qp_num;
  done.opcode = IBV_WC_SEND;
  done.status = deliver(pair, piece, number);
  complete(*static_cast<FakeQueue*>(pair.send_cq), done);
  return 0;
}

int poll_cq(ibv_cq* from, int count, ibv_wc* to) {
  const auto held = lock();
  auto& queue = *static_cast<FakeQueue*>(from);
  int taken = 0;
  for (; taken < count && !queue.done.empty(); ++taken) {
    to[taken] = queue.done.front();
    queue.done.pop_front();
    const auto pair = current->state().pairs.find(to[taken].qp_num);
    if (pair == current->state().pairs.end()) continue;
    --(to[taken].opcode == IBV_WC_SEND ? pair->second->sends_not_polled
                                       : pair->second->receives_not_polled);
  }
  return taken;
}

int req_notify_cq(ibv_cq* queue, int) {
  const auto held = lock();
  static_cast<FakeQueue*>(queue)->armed = true;
  ++current->state().armed;
  return 0;
}

ibv_context* open_device(ibv_device* device) {
  const auto held = lock();
  auto* context = new ibv_context{};
  context->device = device;
  context->ops.poll_cq = poll_cq;
  context->ops.req_notify_cq = req_notify_cq;
  context->ops.post_send = post_send;
  context->ops.post_recv = post_recv;
  current->state().contexts.insert(context);
  return context;
}
int close_device(ibv_context* context) {
  const auto held = lock();
  EXPECT_EQ(current->state().contexts.erase(context), 1u);
  delete context;
  return 0;
}

const char* wc_status_str(ibv_wc_status status) {
  return status == IBV_WC_RETRY_EXC_ERR ? "transport retry counter exceeded" : "another status";
}

}  // namespace

FakeFabric::FakeFabric() : state_(std::make_unique<State>()) {
  EXPECT_EQ(current, nullptr);
  current = this;
  for (size_t i = 0; i < state_->devices.size(); ++i) {
    auto& name = state_->devices[i].name;
    std::snprintf(name, sizeof name, "fake_%zu", i);
  }
  api_ = {.get_device_list = get_device_list,
          .free_device_list = free_device_list,
          .get_device_name = get_device_name,
          .open_device = open_device,
          .close_device = close_device,
          .query_port = query_port,
          .query_gid = query_gid,
          .alloc_pd = alloc_pd,
          .dealloc_pd = dealloc_pd,
          .reg_mr = reg_mr,
          .dereg_mr = dereg_mr,
          .create_cq = create_cq,
          .destroy_cq = destroy_cq,
          .create_qp = create_qp,
          .modify_qp = modify_qp,
          .destroy_qp = destroy_qp,
          .query_gid_ex = query_gid_ex,
          .create_comp_channel = create_comp_channel,
          .destroy_comp_channel = destroy_comp_channel,
          .get_cq_event = get_cq_event,
          .ack_cq_events = ack_cq_events,
          .wc_status_str = wc_status_str};
}

FakeFabric::~FakeFabric() {
  EXPECT_TRUE(state_->contexts.empty() && state_->domains.empty() && state_->regions.empty() &&
              state_->queues.empty() && state_->channels.empty() && state_->pairs.empty())
      << "an endpoint left objects behind";
  current = nullptr;
}

int FakeFabric::sends() const {
  const std::lock_guard held(state_->mutex);
  return state_->sends;
}
int FakeFabric::overruns() const {
  const std::lock_guard held(state_->mutex);
  return state_->overruns;
}
int FakeFabric::most_outstanding() const {
  const std::lock_guard held(state_->mutex);
  return state_->most_outstanding;
}
int FakeFabric::armed() const {
  const std::lock_guard held(state_->mutex);
  return state_->armed;
}

}  // namespace shoal
