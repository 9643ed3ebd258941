#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace shoal::cli {
namespace {

std::atomic<bool> flag{false};
std::atomic<int> unanswered{0};

// A second Ctrl-C before anybody noticed the first leaves at once.
void on_interrupt(int) {
  flag = true;
  if (++unanswered > 1) _exit(130);
}

void on_end(int) {
  flag = true;
}

void answer(int number, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;  // no SA_RESTART: a read that waits returns
  sigaction(number, &action, nullptr);
}

}  // namespace

void catch_interrupts() {
  answer(SIGINT, on_interrupt);
}

void catch_ends() {
  catch_interrupts();
  answer(SIGTERM, on_end);
  struct sigaction before = {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) answer(SIGHUP, on_end);  // nohup wants it ignored
}

bool interrupted() {
  return flag;
}

void clear_interrupt() {
  flag = false;
  unanswered = 0;
}

}  // namespace shoal::cli
