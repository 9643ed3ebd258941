// Pure: (topology, model, wish) -> plans with predictions and reasons. May not touch clock,
// network, files or threads.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "collectives/payload.h"
#include "collectives/route.h"
#include "models/model.h"

namespace shoal {

// Rows of a step at most: what workers are ordered to run, and what their memory is planned for.
inline constexpr int64_t kStepRows = 256;
// Of one of the two parts in which ranks that add up run a step, at least.
inline constexpr int64_t kPartRows = 128;

struct NodeFacts {
  std::string id;                      // fingerprint
  std::string name;                    // host name, for people
  uint64_t memory_bytes = 0;           // that models may use: total, or --memory
  uint64_t memory_reserved_bytes = 0;  // by instances
  int cores = 1;
  int threads = 1;  // that a worker will use
  std::string isa;
  double read_bytes_per_s = 0;           // measured with those threads
  double decode_bytes_per_s = 0;         // measured: weights multiplied with one row; 0: not known
  double multiply_adds_per_s = 0;        // measured: products of a batch of rows, as in prefill
  double float_multiply_adds_per_s = 0;  // the same of weights that are plain floats; 0: not known
};
Json to_json(const NodeFacts& node);
Result<NodeFacts> node_facts_from_json(const Json& json);

struct LinkFacts {
  std::string a, b;         // node ids
  double round_trip_s = 0;  // small message there and back
  double bytes_per_s = 0;
};

struct Topology {
  std::vector<NodeFacts> nodes;  // the first is the one that was asked
  std::vector<LinkFacts> links;
};
Json to_json(const Topology& topology);
// Also of --topology files, whose nodes may leave out `id` (then the name is the id), `threads`,
// `isa` and the reserved bytes.
Result<Topology> topology_from_json(const Json& json);

// How a plan divides a model.
enum class PlanMode : uint8_t {
  kOneNode,
  kTensor,    // every rank holds a part of every tensor
  kPipeline,  // every rank holds some layers
  kHybrid,    // stages, at least one of which is a group of ranks
};
inline constexpr std::array kPlanModes = {PlanMode::kOneNode, PlanMode::kTensor,
                                          PlanMode::kPipeline, PlanMode::kHybrid};
std::string_view plan_mode_name(PlanMode mode);   // "one_node", "tensor", "pipeline", "hybrid"
std::string_view plan_mode_words(PlanMode mode);  // "one node", "tensor parallel"
Result<PlanMode> plan_mode_named(std::string_view name);  // kInvalidArgument

struct Wish {
  int64_t context = 0;    // 0: the largest that fits, up to the trained length
  int64_t sequences = 4;  // at once
  KvType kv_type = KvType::kF16;
  int node_count = 0;              // 0: the planner's choice
  std::optional<PlanMode> mode;    // nothing: the planner's choice
  std::optional<Payload> payload;  // nothing: the planner's choice
};
Json to_json(const Wish& wish);
Result<Wish> wish_from_json(const Json& json);  // absent fields keep their defaults

struct PlannedRank {
  std::string node;  // id
  std::string node_name;
  double share = 0;  // of the work
  RankCut cut;
  int stage = 0;  // ranks of a stage hold the same layers, each a part of every tensor
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t memory_bytes = 0;  // all of it: weights, KV, activations, program
};

struct Plan {
  std::string model;   // as asked
  std::string sha256;  // of the file
  uint64_t file_bytes = 0;
  int64_t context = 0;
  int64_t sequences = 0;
  KvType kv_type = KvType::kF16;
  Payload payload = Payload::kF32;  // of what ranks add up and pass on
  std::vector<PlannedRank> ranks;   // rank 0 leads; those of a stage follow one another
  // The slowest link among the ranks of each stage, as the planner knew it; 0 where there is one
  // rank. What decides the route of sums, so that a plan has the same bits whenever it runs. Empty:
  // nobody measured.
  std::vector<LinkCost> stage_links;
  double prefill_tokens_per_s = 0;     // predicted
  double decode_tokens_per_s = 0;      // of one sequence by itself
  double all_decode_tokens_per_s = 0;  // of all `sequences` together
  double time_to_first_token_s = 0;    // of a prompt of 512 tokens
  double token_links_s = 0;        // of a token's time, what it would be shorter if links took none
  double first_token_links_s = 0;  // the same of the time to the first token
};
PlanMode plan_mode(const Plan& plan);
Json to_json(const Plan& plan);
Result<Plan> plan_from_json(const Json& json);
std::string sha256_of_plan(const Plan& plan);  // what ranks compare when they meet

struct Considered {
  Plan plan;  // without ranks' cuts when it could not be cut
  bool chosen = false;
  bool possible = false;
  std::string reason;  // why chosen, why not, with the numbers
};

struct Placement {
  std::vector<Considered> considered;  // the chosen one first
  const Plan* chosen() const;
};
Json to_json(const Placement& placement);

// Considers each node alone, groups of up to 8 that divide every tensor, and, where the layers of
// the model stand alone, pipelines and stages of such groups; parts in proportion to measured
// speed, within each node's memory with KV. Payloads are f32 unless a narrower one saves time that
// is worth its rounding. The plan that answers soonest is chosen (a prompt of 512 tokens, an answer
// of 256), of equal ones that with fewer nodes. Listed are every node alone and of each mode the
// best plan of each size. The asked node leads where it takes part. kDoesNotFit with needed,
// present and what would fit, when nothing is possible; kInvalidArgument for a wish that cannot be
// meant. `plan.sha256` is left to the caller, who knows the file.
Result<Placement> place(const Topology& topology, const ModelCard& card, const Wish& wish);

}  // namespace shoal
