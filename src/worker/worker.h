// `shoal worker`: the process that runs one shard. Its daemon is on descriptor 3; it has no
// identity, no key but those of its links, and dies with its daemon. Three threads: the one that
// computes (and communicates with other ranks), the one that reads the daemon's frames, and on the
// lead the one that renders templates and tokenises.
#pragma once

namespace shoal {

// Returns the process's exit code.
int worker_main();

}  // namespace shoal
