// The last lines that a worker printed, made safe to show: a worker reads files of strangers, and
// may print what they hold. Pure; one thread.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

class LastWords {
 public:
  static constexpr size_t kLines = 20;
  static constexpr size_t kLineBytes = 1000;  // longer lines are cut

  // Bytes as they come; calls on_line with each line that they complete.
  void add(std::string_view bytes, const std::function<void(const std::string&)>& on_line);
  // The end of the output: what stands unfinished is a line too.
  void finish(const std::function<void(const std::string&)>& on_line);
  std::vector<std::string> lines() const { return {lines_.begin(), lines_.end()}; }

 private:
  void end_line(const std::function<void(const std::string&)>& on_line);

  std::string line_;
  std::deque<std::string> lines_;
};

}  // namespace shoal
