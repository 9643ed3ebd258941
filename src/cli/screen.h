// What people see: tables at 80 columns, progress bars on a terminal. Answers go to standard
// output, all else to standard error. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace shoal::cli {

// Columns as wide as their content; the last one wraps at 80 columns.
class Table {
 public:
  explicit Table(std::vector<std::string> headings);
  void add(std::vector<std::string> row);
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string wrapped(std::string_view text, size_t width, size_t indent);

// One line on standard error that redraws itself; off a terminal one plain line per phase.
class Progress {
 public:
  explicit Progress(bool quiet);
  ~Progress();
  void show(const std::string& phase, uint64_t done, uint64_t total);  // bytes; total 0: unknown
  void clear();

 private:
  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  std::string phase_;
  uint64_t phase_start_bytes_ = 0;
  Clock::time_point phase_start_;
  Clock::time_point last_drawn_;
};

}  // namespace shoal::cli
