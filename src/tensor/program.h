// The program of one rank: what a model is, once cut, as a Backend runs it. Plain data, made by
// `models`, read by backends and the engine. Buffers hold one row of floats per row of the step.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tensor/cut.h"

namespace shoal {

using BufferId = int;
using WeightId = int;
using RopeId = int;

enum class Rows : uint8_t {
  kAll,     // one per row of the step
  kWanted,  // one per row that wants a result, in the order of StepBatch::wanted
};

struct BufferSpec {
  std::string name;
  int64_t width;  // floats per row
  Rows rows = Rows::kAll;
};

enum class WeightUse : uint8_t {
  kVector,  // norm weights and biases, kept as f32
  kMatrix,  // [output rows, input columns]: y = W x; may also be looked up by row (a tied
            // embedding)
};

struct WeightSpec {
  std::string tensor;  // name in the file
  Cut cut;
  WeightUse use;
};

// Rotary position embedding (Su et al., RoFormer, 2021): pair i of the first `dimensions` elements
// of a head is turned by position * base^(-2i/dimensions) / frequency_factors[i].
struct RopeSpec {
  int dimensions;
  float base;
  bool interleaved;          // pairs (2i, 2i+1); otherwise (i, i + dimensions/2)
  float position_scale = 1;  // position is multiplied by it (linear scaling: 1/factor)
  float amplitude = 1;
  std::optional<WeightId> frequency_factors;  // a kVector weight of dimensions/2
};

// Layers that keep the same kind of history and so share a page table.
struct CacheGroupSpec {
  int layer_count;
  int kv_heads;  // of this rank
  int head_dimension;
  int64_t window = 0;  // 0: full attention
};

// --- operations ---

struct Embed {  // out = table[token], zeros for tokens outside [first_token, first_token + rows of
                // table)
  WeightId table;
  int64_t first_token;
  BufferId out;
};
struct RmsNorm {  // out = in / sqrt(mean(in^2) + epsilon) * weight (Zhang & Sennrich, 2019)
  BufferId in;
  WeightId weight;
  float epsilon;
  BufferId out;
};
struct Project {  // outputs[i] = weight_i * in (+ bias_i): products that share their input
  struct Output {
    WeightId weight;
    std::optional<WeightId> bias;
    BufferId out;
  };
  BufferId in;
  std::vector<Output> outputs;
};
struct Rotate {  // in place, each head alike
  BufferId data;
  int heads;
  int head_dimension;
  RopeId rope;
};
// Appends k and v of each row to the cache, then out = softmax(scale * q k^T) v over positions
// 0..position of the row's sequence (the last `window` of them where the group has one). Query head
// h reads kv head query_to_kv[h].
struct Attend {
  int group;
  int layer;  // within the group
  BufferId q, k, v, out;
  std::vector<int> query_to_kv;
  float scale;
};
enum class Activation : uint8_t { kSilu, kGelu };
struct Gate {  // out = activation(gate) * up
  BufferId gate, up, out;
  Activation activation;
};
struct Add {  // target += in
  BufferId in, target;
};
struct Gather {  // out (Rows::kWanted) = the rows of in (Rows::kAll) that want a result
  BufferId in, out;
};

using Operation = std::variant<Embed, RmsNorm, Project, Rotate, Attend, Gate, Add, Gather>;

// What runs between two collectives.
struct Segment {
  std::vector<Operation> operations;
  std::optional<BufferId> all_reduce;  // summed over the ranks after the operations
};

struct Program {
  std::vector<BufferSpec> buffers;
  std::vector<WeightSpec> weights;
  std::vector<RopeSpec> ropes;
  std::vector<CacheGroupSpec> cache_groups;
  std::vector<Segment> segments;
  BufferId hidden;   // Rows::kWanted: the normalised input of the head
  BufferId logits;   // Rows::kWanted: this rank's rows of the vocabulary
  Range vocabulary;  // which rows those are
  int64_t vocabulary_size;
};

}  // namespace shoal
