// Which way an all-reduce travels. Pure; any thread.
#pragma once

#include <cstddef>

namespace shoal {

// What a frame of n bytes costs between two ranks: one_way_s + n / bytes_per_s.
struct LinkCost {
  // 10 GbE, the best that most clusters have. Only the product counts, and slower links have a
  // similar one (1 GbE 70 us * 0.12 GB/s prefers scattering sooner, Thunderbolt later).
  double one_way_s = 50e-6;
  double bytes_per_s = 1.31e9;
};

// How contributions travel in an all_reduce; every rank of a group must use the same.
enum class ReduceRoute {
  kByCost,   // the cheaper of the two for the payload, the number of ranks and the link
  kDirect,   // everybody sends everything to everybody: alpha + (p-1) n/B
  kScatter,  // reduce-scatter, then all-gather: 2 alpha + 2 (p-1)/p n/B
};

// Equal costs go direct, so one or two ranks always do.
bool direct_is_cheaper(size_t payload_bytes, size_t ranks, LinkCost cost);

}  // namespace shoal
