#include <algorithm>

#include "sampling/sampler.h"

namespace shoal {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopStrings::add(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  // The stop that is complete first ends the text (of two that end together the longer), so that
  // the outcome does not depend on the pieces in which the text came.
  size_t end = std::string::npos;
  size_t begin = 0;
  for (const std::string& stop : stops_) {
    const size_t found = held_.find(stop);
    if (found == std::string::npos) continue;
    if (found + stop.size() < end || (found + stop.size() == end && found < begin)) {
      end = found + stop.size();
      begin = found;
    }
  }
  if (end != std::string::npos) {
    stopped_ = true;
    std::string shown = held_.substr(0, begin);
    held_.clear();
    return shown;
  }
  // The longest end of the text with which a stop string begins may still become one.
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    const size_t longest = std::min(stop.size() - 1, held_.size());
    for (size_t length = longest; length > keep; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) {
        keep = length;
        break;
      }
    }
  }
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopStrings::finish() {
  std::string rest;
  if (!stopped_) rest.swap(held_);
  return rest;
}

}  // namespace shoal
