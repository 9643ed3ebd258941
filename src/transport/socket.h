// Sockets with deadlines. Private to this module; any thread.
#pragma once

#include <poll.h>

#include <span>

#include "base/clock.h"
#include "base/result.h"

namespace shoal {

// Sleeps until a descriptor is ready. False: the deadline passed first.
Result<bool> wait_for(std::span<pollfd> descriptors, Deadline deadline);
Status set_nonblocking(int socket);
// No delay for small segments; keepalive probes every second of silence, so that looks_cut_off()
// has something to go by.
Status prepare_tcp_socket(int socket);
// Whether the peer's kernel, which answers even while its process is stopped, has answered nothing
// for some 1.6 s though it was asked three times. In a long silence every call asks once more, so
// that a lost probe or two are no cut. The last may just be on its way: call twice.
bool looks_cut_off(int socket);
// Closing will then reset the connection instead of ending it in order.
void reset_on_close(int socket);

}  // namespace shoal
