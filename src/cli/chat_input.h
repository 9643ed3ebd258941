// Reading a person's turns: line editing and history on a terminal (libedit), several lines by a
// trailing backslash or between lines of """. One thread.
#pragma once

#include <optional>
#include <string>

namespace shoal::cli {

class ChatInput {
 public:
  explicit ChatInput(std::string history_path);
  ~ChatInput();
  ChatInput(const ChatInput&) = delete;
  ChatInput& operator=(const ChatInput&) = delete;

  // A turn; nothing at the end of input (Ctrl-D) or after Ctrl-C twice.
  std::optional<std::string> read();
  bool left_by_interrupt() const { return left_by_interrupt_; }

 private:
  std::optional<std::string> read_line(const char* prompt);

  std::string history_path_;
  void* editor_;
  void* history_;
  bool left_by_interrupt_ = false;
};

}  // namespace shoal::cli
