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

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;  // no SA_RESTART: a read that waits returns
  sigaction(SIGINT, &action, nullptr);
}

bool interrupted() {
  return flag;
}

void clear_interrupt() {
  flag = false;
  unanswered = 0;
}

}  // namespace shoal::cli
