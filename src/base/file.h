// Files and descriptors. Any thread; each object by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace shoal {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { reset(); }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// "cannot open /x: No such file or directory", with the code that errno deserves.
std::unexpected<Error> system_error(std::string_view what, std::string_view path);

Result<std::string> read_file(const std::string& path, uint64_t limit_bytes = 64 << 20);
// Written beside, flushed, renamed: a reader sees the old or the new text, whole. Mode 0600.
Status write_file_atomically(const std::string& path, std::string_view text);
Status make_directories(const std::string& path);  // mode 0700 for what it makes

// A regular file mapped for reading. The bytes may vanish if the file is truncated meanwhile:
// SIGBUS then ends the process that maps it, which is never a daemon.
class MappedFile {
 public:
  static Result<MappedFile> open(
      const std::string& path);  // names a directory, an empty file, a missing one
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return bytes_; }
  // Tells the kernel that these bytes are not needed again, so that their pages leave the resident
  // set, as do a few around them. Whoever reads there all the same gets them back. Any thread.
  void release(std::span<const std::byte> part) const;

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace shoal
