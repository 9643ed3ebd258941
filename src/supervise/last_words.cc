#include "supervise/last_words.h"

#include <utility>

namespace shoal {

void LastWords::add(std::string_view bytes,
                    const std::function<void(const std::string&)>& on_line) {
  for (const char c : bytes) {
    if (c == '\n') {
      end_line(on_line);
    } else if (line_.size() < kLineBytes) {
      // Control characters could move a terminal's cursor or end a line of the log.
      const auto code = static_cast<unsigned char>(c);
      line_ += code < 0x20 || code == 0x7f ? ' ' : c;
    }
  }
}

void LastWords::finish(const std::function<void(const std::string&)>& on_line) {
  end_line(on_line);
}

void LastWords::end_line(const std::function<void(const std::string&)>& on_line) {
  std::string line = std::exchange(line_, {});
  if (line.find_first_not_of(' ') == std::string::npos) return;
  if (on_line) on_line(line);
  lines_.push_back(std::move(line));
  if (lines_.size() > kLines) lines_.pop_front();
}

}  // namespace shoal
