// A cut of a model without experts, for tests.
#pragma once

#include "models/model.h"

namespace shoal {

inline RankCut dense_cut(Range heads, Range feed_forward, Range vocabulary) {
  RankCut cut;
  cut[CutKind::kHeads] = heads;
  cut[CutKind::kFeedForward] = feed_forward;
  cut[CutKind::kVocabulary] = vocabulary;
  return cut;
}

// What a dense llama shape's card says of its cuts, its layers and its cache, from bytes per unit.
// Layers are alike, so what they have of a unit is rounded to whole bytes in each.
struct DenseBytes {
  uint64_t per_kv_head;  // attention of all layers, with the query heads that use it
  uint64_t per_column;   // feed-forward of all layers
  uint64_t per_row;      // vocabulary
  uint64_t head_per_row;
};
inline void set_dense_cuts(ModelCard& card, int64_t feed_forward, int64_t vocabulary,
                           const DenseBytes& bytes, uint64_t norm_bytes = 0) {
  const int64_t queries = card.head_count / card.kv_head_count;
  card[CutKind::kHeads] = {.count = card.head_count, .unit = queries};
  card[CutKind::kFeedForward] = {.count = feed_forward, .unit = 32, .finest_unit = 32};
  card[CutKind::kVocabulary] = {.count = vocabulary, .unit = 32, .finest_unit = 32};
  card.caches = {{.head_dimension = card.head_dimension}};
  const auto layer_count = static_cast<uint64_t>(card.layer_count);
  const auto heads = static_cast<uint64_t>(card.head_count);
  // Of what a KV head's group weighs, its keys and values are two parts in 2 * queries + 2.
  const uint64_t per_key_value =
      bytes.per_kv_head / static_cast<uint64_t>(queries + 1) / layer_count;
  const uint64_t per_head =
      (bytes.per_kv_head / layer_count - per_key_value) / static_cast<uint64_t>(queries);
  LayerFacts layer{.key_value_bytes = per_key_value * static_cast<uint64_t>(card.kv_head_count),
                   .replicated_bytes = 2 * norm_bytes,
                   .cache = 0};
  layer.bytes[static_cast<size_t>(CutKind::kHeads)] = per_head * heads;
  layer.bytes[static_cast<size_t>(CutKind::kFeedForward)] =
      bytes.per_column / layer_count * static_cast<uint64_t>(feed_forward);
  card.layer_kinds = {layer};
  card.layers.assign(layer_count, 0);
  card.head_bytes = bytes.head_per_row * static_cast<uint64_t>(vocabulary);
  card.embedding_bytes = card.tied_embedding ? card.head_bytes
                                             : (bytes.per_row - bytes.head_per_row) *
                                                   static_cast<uint64_t>(vocabulary);
  card.last_bytes = norm_bytes;
  sum_up(card);
}

}  // namespace shoal
