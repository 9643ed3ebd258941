// Ctrl-C as a flag: stops an answer, not the program. Set by the signal, read by whoever waits.
#pragma once

namespace shoal::cli {

void catch_interrupts();
bool interrupted();
void clear_interrupt();

}  // namespace shoal::cli
