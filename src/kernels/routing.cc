#include "kernels/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shoal::kernels {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double number(float value) {
  return std::isnan(value) ? kNever : static_cast<double>(value);
}

void softmax(const float* scores, int64_t count, std::vector<double>& out) {
  double largest = kNever;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, number(scores[i]));
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[static_cast<size_t>(i)] = std::exp(number(scores[i]) - largest);
    sum += out[static_cast<size_t>(i)];
  }
  for (double& value : out) value /= sum;
}

// Fills what experts are chosen by.
void select_by(const Routing& routing, const float* bias, RoutingScratch& scratch) {
  std::vector<double>& by = scratch.by;
  by = scratch.probabilities;
  for (size_t i = 0; i < by.size(); ++i) {
    if (bias != nullptr) by[i] += number(bias[i]);
    if (std::isnan(by[i])) by[i] = kNever;
  }
  if (routing.groups == 1) return;
  const size_t size = by.size() / static_cast<size_t>(routing.groups);
  auto& ranks = scratch.groups;  // falling, of equal ones the lower group first
  ranks.clear();
  for (int group = 0; group < routing.groups; ++group) {
    const auto begin = by.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(group) * size);
    double first = kNever;
    double second = kNever;
    for (auto at = begin; at != begin + static_cast<ptrdiff_t>(size); ++at) {
      second = std::max(second, std::min(first, *at));
      first = std::max(first, *at);
    }
    const double rank = routing.group_by_two && size > 1 ? first + second : first;
    ranks.emplace_back(std::isnan(rank) ? kNever : rank, group);
  }
  std::ranges::sort(ranks, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  for (size_t i = static_cast<size_t>(routing.groups_used); i < ranks.size(); ++i) {
    const size_t group = static_cast<size_t>(ranks[i].second);
    std::fill_n(by.begin() + static_cast<ptrdiff_t>(group * size), size, kNever);
  }
}

}  // namespace

void choose_experts(const Routing& routing, const float* scores, int64_t count, const float* bias,
                    RoutingScratch& scratch, std::vector<ChosenExpert>& chosen) {
  std::vector<double>& probabilities = scratch.probabilities;
  probabilities.assign(static_cast<size_t>(count), 0);
  for (int64_t i = 0; i < count; ++i) {
    const double score = number(scores[i]);
    probabilities[static_cast<size_t>(i)] =
        routing.score == Routing::Score::kSigmoid ? 1 / (1 + std::exp(-score)) : score;
  }
  if (routing.score == Routing::Score::kSoftmax) softmax(scores, count, probabilities);
  select_by(routing, bias, scratch);

  const std::vector<double>& by = scratch.by;
  std::vector<int>& order = scratch.order;
  order.resize(by.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::partial_sort(order.begin(), order.begin() + routing.used, order.end(), [&](int a, int b) {
    const double first = by[static_cast<size_t>(a)], second = by[static_cast<size_t>(b)];
    return first != second ? first > second : a < b;
  });
  chosen.clear();
  double sum = 0;
  const double top = probabilities[static_cast<size_t>(order[0])];
  std::vector<double>& weights = scratch.weights;
  weights.clear();
  for (int i = 0; i < routing.used; ++i) {
    double weight = probabilities[static_cast<size_t>(order[static_cast<size_t>(i)])];
    if (routing.score == Routing::Score::kSoftmaxOfChosen) weight = std::exp(weight - top);
    weights.push_back(weight);
    sum += weight;
  }
  const bool divide = routing.normalised || routing.score == Routing::Score::kSoftmaxOfChosen;
  for (int i = 0; i < routing.used; ++i) {
    const double weight = weights[static_cast<size_t>(i)] / (divide && sum > 0 ? sum : 1);
    chosen.push_back({order[static_cast<size_t>(i)],
                      static_cast<float>(weight * static_cast<double>(routing.scale))});
  }
}

}  // namespace shoal::kernels
