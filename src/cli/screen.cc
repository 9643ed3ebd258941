#include "cli/screen.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/units.h"

namespace shoal::cli {
namespace {

constexpr size_t kScreenColumns = 80;
constexpr size_t kGap = 2;

// Characters, not bytes: names may hold any UTF-8.
size_t columns_of(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string wrapped(std::string_view text, size_t width, size_t indent) {
  std::string result;
  size_t column = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    if (column > 0 && column + 1 + columns_of(word) > width) {
      result += '\n' + std::string(indent, ' ');
      column = 0;
    } else if (column > 0) {
      result += ' ';
      ++column;
    }
    result += word;
    column += columns_of(word);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

Table::Table(std::vector<std::string> headings) {
  rows_.push_back(std::move(headings));
}
void Table::add(std::vector<std::string> row) {
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<size_t> widths(rows_[0].size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns_of(row[i]));
  }
  size_t before_last = 0;
  for (size_t i = 0; i + 1 < widths.size(); ++i) before_last += widths[i] + kGap;
  const size_t room = before_last + 20 < kScreenColumns ? kScreenColumns - before_last : 20;
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i + 1 == row.size()) {
        line += wrapped(row[i], room, before_last);
      } else {
        line += row[i] + std::string(widths[i] + kGap - columns_of(row[i]), ' ');
      }
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    text += line + '\n';
  }
  return text;
}

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}
Progress::~Progress() {
  clear();
}

void Progress::show(const std::string& phase, uint64_t done, uint64_t total) {
  if (quiet_) return;
  const auto now = Clock::now();
  if (phase != phase_) {
    phase_ = phase;
    phase_start_ = now;
    phase_start_bytes_ = done;
    if (!terminal_)
      std::fprintf(stderr, "%s%s\n", phase.c_str(),
                   total > 0 ? fmt::format(" ({})", format_bytes(total)).c_str() : "");
  } else if (now - last_drawn_ < std::chrono::milliseconds(100) && (total == 0 || done < total)) {
    return;
  }
  last_drawn_ = now;
  if (!terminal_) return;
  std::string line = phase;
  if (total > 0) {
    const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const auto filled = static_cast<size_t>(part * 24);
    line = fmt::format("{} [{}{}] {:3.0f}% {}", phase.substr(0, 30), std::string(filled, '#'),
                       std::string(24 - filled, '.'), part * 100, format_bytes(total));
    const double seconds = std::chrono::duration<double>(now - phase_start_).count();
    if (seconds > 0.5 && done > phase_start_bytes_) {
      const double rate = static_cast<double>(done - phase_start_bytes_) / seconds;
      line += fmt::format(
          ", {} left", format_duration(static_cast<double>(total - std::min(done, total)) / rate));
    }
  }
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
  drawn_ = false;
}

}  // namespace shoal::cli
