// A lock among processes and threads, held by flock on a small file and freed by the kernel however
// its holder ends.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "store/http_transfer.h"

namespace shoal {

class FileLock {
 public:
  // Waits until the lock is free, calling `while_waiting` about ten times a second. kCancelled,
  // kIo.
  static Result<FileLock> acquire(const std::string& path,
                                  const std::function<void()>& while_waiting, CancelFlag cancel);
  // nullopt when somebody else holds it.
  static Result<std::optional<FileLock>> try_acquire(const std::string& path);

 private:
  explicit FileLock(UniqueFd file) : file_(std::move(file)) {}
  UniqueFd file_;
};

}  // namespace shoal
