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

// What a dense llama shape's card says of its cuts and its cache, from bytes per unit.
struct DenseBytes {
  uint64_t per_kv_head;  // attention of all layers, with the query heads that use it
  uint64_t per_column;   // feed-forward of all layers
  uint64_t per_row;      // vocabulary
  uint64_t head_per_row;
};
inline void set_dense_cuts(ModelCard& card, int64_t feed_forward, int64_t vocabulary,
                           const DenseBytes& bytes) {
  const int64_t queries = card.head_count / card.kv_head_count;
  // Of what a KV head's group weighs, its keys and values are two parts in 2 * queries + 2.
  card.kv_weight_bytes_each = bytes.per_kv_head / static_cast<uint64_t>(queries + 1);
  const uint64_t per_head =
      (bytes.per_kv_head - card.kv_weight_bytes_each) / static_cast<uint64_t>(queries);
  card[CutKind::kHeads] = {card.head_count, queries, 1, per_head, per_head};
  card[CutKind::kFeedForward] = {feed_forward, 32, 32, bytes.per_column, bytes.per_column};
  card[CutKind::kVocabulary] = {vocabulary, 32, 32, bytes.per_row, bytes.head_per_row};
  card.caches = {{.layer_count = card.layer_count, .head_dimension = card.head_dimension}};
}

}  // namespace shoal
