#include "cli/chat_input.h"

#include <histedit.h>

#include <cerrno>
#include <clocale>
#include <cstdio>

#include "cli/interrupt.h"

namespace shoal::cli {
namespace {

constexpr int kRememberedLines = 1000;
constexpr std::string_view kBlock = "\"\"\"";

char* shown_prompt(EditLine* editor) {
  void* prompt = nullptr;
  el_get(editor, EL_CLIENTDATA, &prompt);
  return static_cast<char*>(prompt);
}

}  // namespace

ChatInput::ChatInput(std::string history_path) : history_path_(std::move(history_path)) {
  std::setlocale(LC_CTYPE, "C.UTF-8");
  EditLine* editor = el_init("shoal", stdin, stdout, stderr);
  History* history = history_init();
  HistEvent event;
  ::history(history, &event, H_SETSIZE, kRememberedLines);
  ::history(history, &event, H_SETUNIQUE, 1);
  ::history(history, &event, H_LOAD, history_path_.c_str());
  el_set(editor, EL_PROMPT, shown_prompt);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_HIST, ::history, history);
  el_set(editor, EL_SIGNAL, 0);
  editor_ = editor;
  history_ = history;
}

ChatInput::~ChatInput() {
  HistEvent event;
  ::history(static_cast<History*>(history_), &event, H_SAVE, history_path_.c_str());
  history_end(static_cast<History*>(history_));
  el_end(static_cast<EditLine*>(editor_));
}

std::optional<std::string> ChatInput::read_line(const char* prompt) {
  auto* editor = static_cast<EditLine*>(editor_);
  el_set(editor, EL_CLIENTDATA, prompt);
  int length = 0;
  const char* line = el_gets(editor, &length);
  if (line == nullptr || length <= 0) return std::nullopt;
  std::string text(line, static_cast<size_t>(length));
  if (text.back() == '\n') text.pop_back();
  return text;
}

std::optional<std::string> ChatInput::read() {
  bool warned = false;
  std::string turn;
  bool in_block = false;
  bool continued = false;
  while (true) {
    clear_interrupt();
    std::optional<std::string> line =
        read_line(turn.empty() && !in_block && !continued ? "> " : "... ");
    if (!line) {
      if (!interrupted()) return std::nullopt;
      if (warned) {
        left_by_interrupt_ = true;
        return std::nullopt;
      }
      warned = true;
      turn.clear();
      in_block = continued = false;
      std::fprintf(stderr, "\n(Ctrl-C again, or /bye, leaves)\n");
      el_reset(static_cast<EditLine*>(editor_));
      continue;
    }
    warned = false;
    if (*line == kBlock || (!in_block && line->starts_with(kBlock))) {
      in_block = !in_block;
      line->erase(0, kBlock.size());
      if (in_block && line->empty()) continue;
      if (in_block && line->ends_with(kBlock)) {
        line->resize(line->size() - kBlock.size());
        in_block = false;
      }
    } else if (in_block && line->ends_with(kBlock)) {
      line->resize(line->size() - kBlock.size());
      in_block = false;
    }
    continued = !in_block && line->ends_with('\\');
    if (continued) line->back() = '\n';
    turn += *line;
    if (in_block) turn += '\n';
    if (in_block || continued) continue;
    if (!turn.empty()) {
      HistEvent event;
      ::history(static_cast<History*>(history_), &event, H_ENTER, turn.c_str());
    }
    return turn;
  }
}

}  // namespace shoal::cli
