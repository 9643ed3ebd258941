// Cards of two real shapes, for the tests of placement: figures as their files give them.
#pragma once

#include "../models/dense_cut.h"
#include "models/model.h"
#include "placement/placement.h"

namespace shoal {

// SmolLM2 135M in Q4_1 (20 bytes per 32 weights): 3 KV heads, 9 query heads, tied table.
inline ModelCard smollm2_card() {
  ModelCard card;
  card.name = "smollm2:135m";
  card.architecture = "llama";
  card.quantisation = "Q4_1";
  card.file_bytes = 98'362'432;
  card.parameter_count = 134'515'008;
  card.layer_count = 30;
  card.hidden = 576;
  card.head_count = 9;
  card.kv_head_count = 3;
  card.head_dimension = 64;
  card.context_length = 8192;
  card.tied_embedding = true;
  constexpr uint64_t kRow = 576 * 34 / 32;  // Q8_0
  set_dense_cuts(card, 1536, 49152,
                 {30ull * 576 * 64 * (2 * 3 + 2) * 20 / 32, 30ull * 3 * 576 * 20 / 32, kRow, kRow},
                 576 * 4);
  return card;
}

// The 1.24 B shape in F16: 8 KV heads, 2.5 GB.
inline ModelCard big_card() {
  ModelCard card;
  card.name = "llama-1b-f16";
  card.architecture = "llama";
  card.quantisation = "F16";
  card.file_bytes = 2'479'595'744;
  card.parameter_count = 1'235'814'432;
  card.layer_count = 16;
  card.hidden = 2048;
  card.head_count = 32;
  card.kv_head_count = 8;
  card.head_dimension = 64;
  card.context_length = 131072;
  card.tied_embedding = true;
  set_dense_cuts(card, 8192, 128256,
                 {16ull * 2048 * 64 * (2 * 4 + 2) * 2, 16ull * 3 * 2048 * 2, 2048 * 2, 2048 * 2},
                 2048 * 4);
  return card;
}

inline NodeFacts node(const std::string& name, double memory_gb, double read_gb_per_s = 10) {
  NodeFacts facts;
  facts.id = name;
  facts.name = name;
  facts.memory_bytes = static_cast<uint64_t>(memory_gb * 1e9);
  facts.read_bytes_per_s = read_gb_per_s * 1e9;
  facts.multiply_adds_per_s = 2e11;
  return facts;
}

inline LinkFacts link(const std::string& a, const std::string& b, double round_trip_s,
                      double bytes_per_s) {
  return {a, b, round_trip_s, bytes_per_s};
}

}  // namespace shoal
