// Once buffers have grown, a step's worth of calls allocates nothing.
#include <cstdlib>
#include <new>

#include "ranks.h"

namespace {

thread_local size_t allocations = 0;

}  // namespace

void* operator new(size_t size) {
  ++allocations;
  if (void* const memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace shoal {
namespace {

// Both ranks in one thread: all frames fit into the sockets, so nobody has to wait for the other.
void run_step(std::vector<Group>& groups, std::vector<std::vector<float>>& values, Bytes& header,
              Bytes& result) {
  Bytes posted = groups[0].spare_frame();
  posted.resize(200);
  ASSERT_TRUE(groups[0].post(1, std::move(posted)));
  ASSERT_TRUE(groups[1].receive(0, header, in_seconds(30)));
  for (size_t r = 0; r < 2; ++r) ASSERT_TRUE(groups[r].begin_all_reduce(values[r]));
  for (Group& group : groups) ASSERT_TRUE(group.finish_all_reduce(in_seconds(30)));
  ASSERT_TRUE(groups[0].try_receive(1, result));
  Bytes answer = groups[1].spare_frame();
  answer.resize(4000);
  ASSERT_TRUE(groups[1].post(0, std::move(answer)));
  ASSERT_TRUE(groups[0].receive(1, result, in_seconds(30)));
}

TEST(Allocation, StepsAllocateNothingOnceBuffersHaveGrown) {
  for (const Payload payload : kPayloads) {
    for (const ReduceRoute route : {ReduceRoute::kDirect, ReduceRoute::kScatter}) {
      std::vector<Group> groups = make_groups(2, LinkMode::kPlain);
      std::vector<std::vector<float>> values(2, std::vector<float>(1000, 0.5f));
      Bytes header;
      Bytes result;
      for (Group& group : groups) {
        group.set_payload(payload);
        group.set_reduce_route(route);
      }
      for (int step = 0; step < 20; ++step) run_step(groups, values, header, result);
      const size_t before = allocations;
      for (int step = 0; step < 20; ++step) run_step(groups, values, header, result);
      EXPECT_EQ(allocations - before, 0u) << payload_name(payload);
    }
  }
}

}  // namespace
}  // namespace shoal
