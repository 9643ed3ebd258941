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
// No delay for small segments; a peer that vanished without a word is noticed by keepalive,
// unacknowledged bytes by a timeout.
Status prepare_tcp_socket(int socket);
// Closing will then reset the connection instead of ending it in order.
void reset_on_close(int socket);

}  // namespace shoal
