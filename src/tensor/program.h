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
inline constexpr BufferId kNoBuffer = -1;

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
  kVector,    // norm weights and biases, kept as f32; one of several rows is kept row after row
  kMatrix,    // [output rows, input columns]: y = W x; may also be looked up by row (a tied
              // embedding)
  kMatrices,  // several of one shape, one below the other in the file: of experts or of heads
};

struct WeightSpec {
  std::string tensor;  // name in the file
  Cut cut;             // kMatrices: of each of them, all of which are kept unless `kept` says less
  WeightUse use;
  int64_t matrix_count = 1;  // kMatrices: how many the tensor holds
  Range kept = {};           // kMatrices: those that this rank holds; empty: all
  bool transposed = false;   // kMatrices: each is turned after it was cut, so that y = W^T x
};

// Rotary position embedding (Su et al., RoFormer, 2021): pair i of the first `dimensions` elements
// of a head is turned by position * base^(-2i/dimensions) / frequency_factors[i].
struct RopeSpec {
  int dimensions = 0;
  float base = 0;
  bool interleaved = false;  // pairs (2i, 2i+1); otherwise (i, i + dimensions/2)
  float position_scale = 1;  // position is multiplied by it (linear scaling: 1/factor)
  float amplitude = 1;       // of cosines and sines
  std::optional<WeightId> frequency_factors;  // a kVector weight of dimensions/2
  std::vector<double> frequency_scales;       // of each pair, multiplied; empty: ones
};

// Layers that keep the same kind of history and so share a page table.
struct CacheGroupSpec {
  int layer_count;  // that this rank runs; may be 0
  int kv_heads;     // of this rank
  int head_dimension;
  int64_t window = 0;  // 0: full attention
  // The window does not slide: a position attends to those of its own `window` positions, counted
  // from the start of the sequence, that are not after it.
  bool chunked = false;
  // Latent attention (DeepSeek-AI, DeepSeek-V2, 2024): the value of a position is the first so many
  // elements of its key, and is not kept beside it. 0: values of head_dimension of their own.
  int value_in_key = 0;

  int value_dimension() const { return value_in_key > 0 ? value_in_key : head_dimension; }
  // The first position that a row at `position` attends to.
  int64_t first_attended(int64_t position) const {
    if (chunked) return position - position % window;
    return window > 0 && position >= window ? position - window + 1 : 0;
  }
};

// --- operations ---

struct Embed {  // out = scale * table[token], zeros for tokens outside [first_token, first_token +
                // rows of table)
  WeightId table;
  int64_t first_token;
  BufferId out;
  float scale = 1;
};
// out = in / sqrt(mean(in^2) + epsilon) * weight (Zhang & Sennrich, 2019), of the first `width`
// elements of each of `parts` equal parts of a row; the rest of a part is left as it is. May be in
// place.
struct RmsNorm {
  BufferId in;
  std::optional<WeightId> weight;  // of `width`; none: ones
  float epsilon;
  BufferId out;
  int parts = 1;
  int64_t width = 0;  // 0: the whole part
};
// The same norm over a row that is cut over the ranks: SumSquares, an all-reduce, ScaleBySquares.
struct SumSquares {  // out[column] = sum of in^2 over these elements of a row
  BufferId in, out;
  int column;
  Range elements;
};
struct ScaleBySquares {  // data *= weight / sqrt(squares[column] / count + epsilon)
  BufferId data, squares;
  int column;
  int64_t count;  // elements of the whole row
  float epsilon;
  WeightId weight;
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
// Products part by part: out part i = matrix i (of a kMatrices weight) * in part i. A row of `in`
// holds a part every `in_stride` floats, of which the first `in_width` are read; `out` likewise.
struct ProjectParts {
  BufferId in;
  int64_t in_stride, in_width;
  WeightId weight;
  BufferId out;
  int64_t out_stride, out_width;
};
// Copies `width` floats of each part of a row: from `in_offset` in every `in_stride` to
// `out_offset` in every `out_stride`.
struct CopyParts {
  BufferId in;
  int64_t in_stride, in_offset;
  BufferId out;
  int64_t out_stride, out_offset;
  int64_t width;
  int parts;
};
struct Rotate {  // in place, each head alike, the elements from `offset` of it
  BufferId data;
  int heads;
  int head_dimension;
  RopeId rope;
  int offset = 0;
};
// data *= 1 + growth * ln(1 + floor((position + offset) / period))
struct GrowByPosition {
  BufferId data;
  float growth;
  int64_t period;
  int64_t offset = 0;
};
// Appends k and v of each row to the cache, then out = softmax(scale * q k^T) v over positions
// 0..position of the row's sequence (the last `window` of them where the group has one). Query head
// h reads kv head query_to_kv[h]. Where the group keeps values in its keys, v is k.
struct Attend {
  int group;
  int layer;  // within the group
  BufferId q, k, v, out;
  std::vector<int> query_to_kv;
  float scale;
  float soft_cap = 0;             // scores become cap * tanh(score / cap); 0: no cap
  std::optional<WeightId> sinks;  // one per query head: a score beside the others, of no value
  bool appends = true;  // false: an operation before has appended to this layer, and k and v are
                        // not read
};
enum class Activation : uint8_t {
  kSilu,
  kGelu,        // the tanh form
  kCappedSilu,  // of gpt-oss: min(gate, 7) * sigmoid(1.702 * min(gate, 7)), times up clipped to
                // [-7, 7] plus one
};
struct Gate {  // out = activation(gate) * up
  BufferId gate, up, out;
  Activation activation;
};
// A mixture of experts. Which of them a row goes to follows from `router`, one score per expert:
//   probabilities = softmax or sigmoid of the scores; chosen are the `used` with the largest
//   probability + selection bias, after all but `groups_used` of `groups` equal groups have been
//   left out (a group's rank: its largest, or the sum of its two largest); weights are the chosen
//   ones' probabilities, divided by their sum if `normalised`, times `scale` and what each expert
//   has of its own.
struct Routing {
  enum class Score : uint8_t {
    kSoftmax,
    kSigmoid,
    kSoftmaxOfChosen,  // over the scores of those chosen
  };
  Score score = Score::kSoftmax;
  int used = 1;
  bool normalised = false;
  float scale = 1;
  int groups = 1;
  int groups_used = 1;
  bool group_by_two = false;
  std::optional<WeightId> selection_bias;
  std::optional<WeightId> expert_scales;  // one per expert
  bool weighs_input = false;              // what an expert reads is weighed, not what it gives
};
// out = sum over a row's experts of weight * (down * activation(gate * in, up * in)), each product
// with its bias where there is one. All kMatrices; biases are kVectors of [experts][rows].
struct Experts {
  BufferId in, router, out;
  Routing routing;
  WeightId gate, up, down;
  std::optional<WeightId> gate_bias, up_bias, down_bias;
  int64_t width;  // of this rank's part of an expert
  Activation activation;
};
struct Add {  // target += scale * in
  BufferId in, target;
  float scale = 1;
};
struct Scale {  // data *= factor, and the weight's one element
  BufferId data;
  float factor;
  std::optional<WeightId> weight = std::nullopt;
};
struct SoftCap {  // data = cap * tanh(data / cap)
  BufferId data;
  float cap;
};
struct SigmoidScale {  // data *= sigmoid(gate), one per row
  BufferId gate, data;
};
struct Gather {  // out (Rows::kWanted) = the rows of in (Rows::kAll) that want a result
  BufferId in, out;
};

using Operation = std::variant<Embed, RmsNorm, SumSquares, ScaleBySquares, Project, ProjectParts,
                               CopyParts, Rotate, GrowByPosition, Attend, Gate, Experts, Add, Scale,
                               SoftCap, SigmoidScale, Gather>;

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
  // Of a model whose layers are cut over stages: what the stage before passes on (Rows::kAll),
  // before the first segment, and what goes to the one after, after the last.
  std::optional<BufferId> received, sent;
  // Of the last stage; kNoBuffer where something is sent.
  BufferId hidden = kNoBuffer;  // Rows::kWanted: the normalised input of the head
  BufferId logits = kNoBuffer;  // Rows::kWanted: this rank's rows of the vocabulary
  Range vocabulary;             // which rows those are
  int64_t vocabulary_size;
};

}  // namespace shoal
