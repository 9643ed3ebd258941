#include "store/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

namespace shoal {

Result<std::optional<FileLock>> FileLock::try_acquire(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return system_error("cannot create", path);
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return std::nullopt;
    if (errno != EINTR) return system_error("cannot lock", path);
  }
  return FileLock(std::move(file));
}

Result<FileLock> FileLock::acquire(const std::string& path,
                                   const std::function<void()>& while_waiting, CancelFlag cancel) {
  while (true) {
    SHOAL_ASSIGN(std::optional<FileLock> lock, try_acquire(path));
    if (lock) return std::move(*lock);
    if (while_waiting) while_waiting();
    if (!pause_unless_cancelled(100, cancel)) {
      return fail(ErrorCode::kCancelled,
                  "cancelled while another pull of the same model was under way");
    }
  }
}

}  // namespace shoal
