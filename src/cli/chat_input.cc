#include "cli/chat_input.h"

#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cwchar>

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

// False for a Ctrl-C. The signal is let in only while we wait, so that none is missed.
bool wait_for_input(int descriptor) {
  sigset_t interrupt;
  sigset_t before;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  sigprocmask(SIG_BLOCK, &interrupt, &before);
  pollfd waiting = {descriptor, POLLIN, 0};
  while (!interrupted() && ::ppoll(&waiting, 1, nullptr, &before) <= 0) {
  }
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return !interrupted();
}

// In place of libedit's own reader, which goes on waiting after a Ctrl-C.
int read_character(EditLine* editor, wchar_t* character) {
  FILE* input = nullptr;
  el_get(editor, EL_GETFP, 0, &input);
  const int descriptor = ::fileno(input);
  std::mbstate_t state = {};
  while (true) {
    if (!wait_for_input(descriptor)) return -1;
    char byte = 0;
    const ssize_t got = ::read(descriptor, &byte, 1);
    if (got <= 0) return static_cast<int>(got);
    const size_t length = std::mbrtowc(character, &byte, 1, &state);
    if (length == static_cast<size_t>(-1)) state = {};  // not UTF-8: dropped
    if (length <= 1) return 1;
  }
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
  el_set(editor, EL_GETCFN, read_character);
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
