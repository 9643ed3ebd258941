// Ctrl-C as a flag: stops an answer, not the program. Set by the signal, read by whoever waits.
#pragma once

namespace shoal::cli {

void catch_interrupts();
// SIGTERM and SIGHUP too, for commands that have something to clean up before they end.
void catch_ends();
bool interrupted();
void clear_interrupt();

}  // namespace shoal::cli
