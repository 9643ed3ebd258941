#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>

namespace shoal {

void start_logging(const std::string& name, bool quiet) {
  auto logger = std::make_shared<spdlog::logger>(
      name, std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%H:%M:%S.%e %n %^%l%$ %v");
  const char* level = std::getenv("SHOAL_LOG");
  logger->set_level(level != nullptr ? spdlog::level::from_str(level)
                                     : (quiet ? spdlog::level::err : spdlog::level::info));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace shoal
