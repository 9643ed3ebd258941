#include "small_model.h"

#include <cmath>

#include "kernels/cpu_backend.h"

namespace shoal::kernels_test {
namespace {

constexpr float kEpsilon = 1e-5f;
constexpr float kRopeBase = 1000;

std::vector<double> normed(const std::vector<double>& x, const SmallModel::Tensor& weight) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  const double scale =
      1 / std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(kEpsilon));
  std::vector<double> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    out[i] =
        x[i] * scale *
        element_at(weight.type, weight.bytes, weight.columns, 0, static_cast<int64_t>(i)).value;
  }
  return out;
}

std::vector<double> times(const SmallModel::Tensor& matrix, const std::vector<double>& x) {
  std::vector<double> out(static_cast<size_t>(matrix.rows), 0.0);
  for (int64_t r = 0; r < matrix.rows; ++r) {
    for (int64_t c = 0; c < matrix.columns; ++c) {
      out[static_cast<size_t>(r)] +=
          element_at(matrix.type, matrix.bytes, matrix.columns, r, c).value *
          x[static_cast<size_t>(c)];
    }
  }
  return out;
}

void turn(std::vector<double>& data, int heads, int position, bool interleaved,
          const SmallModel::Tensor& factors) {
  constexpr int kDimension = SmallModel::kHeadDimension;
  for (int h = 0; h < heads; ++h) {
    double* head = &data[static_cast<size_t>(h * kDimension)];
    for (int i = 0; i < kDimension / 2; ++i) {
      const double factor = element_at(factors.type, factors.bytes, factors.columns, 0, i).value;
      const double angle =
          position * std::pow(static_cast<double>(kRopeBase), -2.0 * i / kDimension) / factor;
      double& a = head[interleaved ? 2 * i : i];
      double& b = head[interleaved ? 2 * i + 1 : i + kDimension / 2];
      const double first = a * std::cos(angle) - b * std::sin(angle);
      b = a * std::sin(angle) + b * std::cos(angle);
      a = first;
    }
  }
}

}  // namespace

Program SmallModel::program() const {
  Program p;
  const auto all = [&](const char* name, int64_t width) {
    p.buffers.push_back({name, width, Rows::kAll});
  };
  const auto wanted = [&](const char* name, int64_t width) {
    p.buffers.push_back({name, width, Rows::kWanted});
  };
  constexpr int kQWidth = kHeads * kHeadDimension, kKvWidth = kKvHeads * kHeadDimension;
  all("residual", kHidden), all("normed", kHidden), all("q", kQWidth), all("k", kKvWidth),
      all("v", kKvWidth);
  all("mixed", kQWidth), all("delta", kHidden), all("gate", kFeedForward), all("up", kFeedForward);
  wanted("gathered", kHidden), wanted("hidden", kHidden), wanted("logits", kTableRows);
  const WeightUse v = WeightUse::kVector, m = WeightUse::kMatrix;
  // The table holds a rank's rows of the vocabulary; the feed-forward all of its columns in two
  // ranges.
  p.weights = {{"table", {{{kFirstToken, kFirstToken + kTableRows}}, {}}, m},
               {"norm1", {}, v},
               {"norm2", {}, v},
               {"q", {}, m},
               {"k", {}, m},
               {"v", {}, m},
               {"bias", {}, v},
               {"out", {}, m},
               {"gate", {}, m},
               {"up", {}, m},
               {"down", {{}, {{0, 32}, {32, 96}}}, m},
               {"factors", {}, v}};
  p.ropes = {{.dimensions = kHeadDimension,
              .base = kRopeBase,
              .interleaved = interleaved,
              .frequency_factors = 11}};
  p.cache_groups = {{.layer_count = 1,
                     .kv_heads = kKvHeads,
                     .head_dimension = kHeadDimension,
                     .window = window,
                     .chunked = chunked}};
  p.segments = {
      {{Embed{0, kFirstToken, kResidual}}, kResidual},
      {{RmsNorm{kResidual, 1, kEpsilon, kNormed},
        Project{kNormed, {{3, 6, kQ}, {4, {}, kK}, {5, {}, kV}}},
        Rotate{kQ, kHeads, kHeadDimension, 0}, Rotate{kK, kKvHeads, kHeadDimension, 0},
        Attend{0, 0, kQ, kK, kV, kMixed, {0, 0, 1, 1, 2, 2}, 0.25f},
        Project{kMixed, {{7, {}, kDelta}}}},
       kDelta},
      {{Add{kDelta, kResidual}, RmsNorm{kResidual, 2, kEpsilon, kNormed},
        Project{kNormed, {{8, {}, kGateOut}, {9, {}, kUp}}},
        Gate{kGateOut, kUp, kGateOut, Activation::kSilu}, Project{kGateOut, {{10, {}, kDelta}}},
        Add{kDelta, kResidual}, Gather{kResidual, kGathered},
        RmsNorm{kGathered, 2, kEpsilon, kHiddenOut}, Project{kHiddenOut, {{0, {}, kLogits}}}},
       {}}};
  p.hidden = kHiddenOut;
  p.logits = kLogits;
  p.vocabulary = {kFirstToken, kFirstToken + kTableRows};
  p.vocabulary_size = kVocabulary;
  if (after) after(p);
  return p;
}

std::vector<SmallModel::Tensor> SmallModel::tensors() const {
  std::vector<Tensor> result;
  uint64_t seed = 40;
  const auto add = [&](ElementType type, int64_t rows, int64_t columns) {
    result.push_back({type, rows, columns, random_tensor(type, rows, columns, ++seed)});
  };
  const auto vector = [&](int64_t columns) {  // values near one
    std::vector<std::byte> bytes(static_cast<size_t>(columns) * 4);
    Random random(++seed);
    for (int64_t i = 0; i < columns; ++i) {
      const float value = 1 + 0.3f * random.symmetric();
      std::memcpy(&bytes[static_cast<size_t>(i * 4)], &value, 4);
    }
    result.push_back({ElementType::kF32, 1, columns, bytes});
  };
  const ElementType t = matrix_type;
  add(t, kVocabulary, kHidden), vector(kHidden), vector(kHidden);
  add(t, kHeads * kHeadDimension, kHidden), add(t, kKvHeads * kHeadDimension, kHidden);
  add(t, kKvHeads * kHeadDimension, kHidden), vector(kHeads * kHeadDimension);
  add(t, kHidden, kHeads * kHeadDimension), add(t, kFeedForward, kHidden),
      add(t, kFeedForward, kHidden);
  add(t, kHidden, kFeedForward), vector(kHeadDimension / 2);
  return result;
}

Result<std::unique_ptr<Backend>> SmallModel::start(Isa isa, int threads, KvType kv,
                                                   int64_t pages) const {
  auto backend = make_cpu_backend(isa, threads);
  SHOAL_TRY(backend->prepare(program(), {kRows, kWanted, kPositions}));
  const auto all = tensors();
  for (size_t i = 0; i < all.size(); ++i) {
    SHOAL_TRY(backend->load(static_cast<WeightId>(i),
                            source_of(all[i].type, all[i].rows, all[i].columns, all[i].bytes)));
  }
  SHOAL_TRY(backend->allocate_kv(kv, std::span(&pages, 1)));
  return backend;
}

SmallModel::Outcome SmallModel::evaluate(const std::vector<int32_t>& tokens) const {
  const auto w = tensors();
  Outcome outcome;
  std::vector<std::vector<double>> keys, values;
  for (size_t position = 0; position < tokens.size(); ++position) {
    std::vector<double> x(kHidden, 0.0);
    if (tokens[position] >= kFirstToken && tokens[position] < kFirstToken + kTableRows) {
      for (int i = 0; i < kHidden; ++i) {
        x[static_cast<size_t>(i)] =
            element_at(w[0].type, w[0].bytes, kHidden, tokens[position], i).value;
      }
    }
    const auto n = normed(x, w[1]);
    auto q = times(w[3], n), k = times(w[4], n);
    for (size_t i = 0; i < q.size(); ++i) {
      q[i] += element_at(w[6].type, w[6].bytes, w[6].columns, 0, static_cast<int64_t>(i)).value;
    }
    turn(q, kHeads, static_cast<int>(position), interleaved, w[11]);
    turn(k, kKvHeads, static_cast<int>(position), interleaved, w[11]);
    keys.push_back(k);
    values.push_back(times(w[5], n));
    std::vector<double> mixed(q.size(), 0.0);
    size_t first = window > 0 && position + 1 > static_cast<size_t>(window)
                       ? position + 1 - static_cast<size_t>(window)
                       : 0;
    if (chunked) first = position / static_cast<size_t>(window) * static_cast<size_t>(window);
    for (size_t h = 0; h < kHeads; ++h) {
      double total = 0;
      for (size_t p = first; p <= position; ++p) {
        double score = 0;
        for (size_t i = 0; i < kHeadDimension; ++i)
          score += q[h * kHeadDimension + i] * keys[p][h / 2 * kHeadDimension + i];
        const double weight = std::exp(score * 0.25);
        total += weight;
        for (size_t i = 0; i < kHeadDimension; ++i)
          mixed[h * kHeadDimension + i] += weight * values[p][h / 2 * kHeadDimension + i];
      }
      for (size_t i = 0; i < kHeadDimension; ++i) mixed[h * kHeadDimension + i] /= total;
    }
    const auto attended = times(w[7], mixed);
    for (size_t i = 0; i < x.size(); ++i) x[i] += attended[i];
    const auto m = normed(x, w[2]);
    auto gate = times(w[8], m);
    const auto up = times(w[9], m);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    const auto delta = times(w[10], gate);
    for (size_t i = 0; i < x.size(); ++i) x[i] += delta[i];
    outcome.hidden.push_back(normed(x, w[2]));
    const auto logits = times(w[0], outcome.hidden.back());
    outcome.logits.emplace_back(logits.begin() + kFirstToken,
                                logits.begin() + kFirstToken + kTableRows);
  }
  return outcome;
}

Result<StepOutcome> run_step(Backend& backend, size_t segments, const std::vector<Chunk>& chunks) {
  std::vector<int32_t> tokens, positions, sequences, wanted;
  std::vector<Role> roles;
  std::vector<std::span<const PageId>> tables;
  for (size_t s = 0; s < chunks.size(); ++s) {
    for (size_t i = 0; i < chunks[s].tokens.size(); ++i) {
      tokens.push_back(chunks[s].tokens[i]);
      positions.push_back(chunks[s].first_position + static_cast<int32_t>(i));
      sequences.push_back(static_cast<int32_t>(s));
      roles.push_back(chunks[s].role);
    }
    wanted.push_back(static_cast<int32_t>(tokens.size()) - 1);
    tables.emplace_back(chunks[s].pages);
  }
  const StepBatch batch = {tokens, positions, roles, sequences, wanted, {tables}};
  for (size_t segment = 0; segment < segments; ++segment) SHOAL_TRY(backend.run(segment, batch));
  StepOutcome outcome;
  const auto count = static_cast<int64_t>(chunks.size());
  const auto split = [&](BufferId id, std::vector<std::vector<float>>& rows) {
    const auto all = backend.rows(id, 0, count);
    const size_t width = all.size() / chunks.size();
    for (size_t r = 0; r < chunks.size(); ++r)
      rows.emplace_back(all.begin() + static_cast<int64_t>(r * width),
                        all.begin() + static_cast<int64_t>((r + 1) * width));
  };
  split(kHiddenOut, outcome.hidden);
  split(kLogits, outcome.logits);
  return outcome;
}

}  // namespace shoal::kernels_test
