// Logging: spdlog to standard error (standard output belongs to answers). Any thread.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace shoal {

// Name shown with each line ("serve", "worker 1"). Level from SHOAL_LOG (trace..error, default
// info) unless quiet.
void start_logging(const std::string& name, bool quiet);

namespace log = spdlog;

}  // namespace shoal
