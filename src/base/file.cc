#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace shoal {

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

std::unexpected<Error> system_error(std::string_view what, std::string_view path) {
  const int number = errno;
  ErrorCode code = ErrorCode::kIo;
  if (number == ENOENT || number == ENOTDIR) code = ErrorCode::kNotFound;
  if (number == EACCES || number == EPERM) code = ErrorCode::kPermission;
  if (number == ENOSPC || number == EDQUOT) code = ErrorCode::kStorageFull;
  if (number == ENOMEM) code = ErrorCode::kDoesNotFit;
  return fail(code, "{} {}: {}", what, path, std::strerror(number));
}

Result<std::string> read_file(const std::string& path, uint64_t limit_bytes) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return system_error("cannot open", path);
  std::string text;
  char buffer[65536];
  while (true) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read", path);
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > limit_bytes)
      return fail(ErrorCode::kTooLarge, "{} is over {} bytes long", path, limit_bytes);
  }
}

Status write_file_atomically(const std::string& path, std::string_view text) {
  const std::string beside = path + ".new";
  UniqueFd file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return system_error("cannot create", beside);
  while (!text.empty()) {
    const ssize_t put = ::write(file.get(), text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error("cannot write", beside);
    text.remove_prefix(static_cast<size_t>(put));
  }
  if (::fsync(file.get()) != 0) return system_error("cannot flush", beside);
  if (::rename(beside.c_str(), path.c_str()) != 0) return system_error("cannot replace", path);
  return {};
}

Status make_directories(const std::string& path) {
  const std::filesystem::path whole(path);
  std::filesystem::path part;
  for (const auto& name : whole) {
    part /= name;
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      // A parent that exists but may not be written answers EROFS or EACCES; only a missing one
      // matters.
      const int number = errno;
      struct stat facts;
      if (::stat(part.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode)) continue;
      errno = number;
      return system_error("cannot create directory", part.string());
    }
  }
  struct stat facts;
  if (::stat(path.c_str(), &facts) != 0) return system_error("cannot use directory", path);
  if (!S_ISDIR(facts.st_mode))
    return fail(ErrorCode::kInvalidArgument, "{} is not a directory", path);
  return {};
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return system_error("cannot open", path);
  struct stat facts;
  if (::fstat(file.get(), &facts) != 0) return system_error("cannot examine", path);
  if (S_ISDIR(facts.st_mode))
    return fail(ErrorCode::kInvalidArgument, "{} is a directory; name a .gguf file inside it",
                path);
  if (!S_ISREG(facts.st_mode))
    return fail(ErrorCode::kInvalidArgument, "{} is not a regular file", path);
  if (facts.st_size == 0) return fail(ErrorCode::kCorrupt, "{} is empty; download it again", path);
  const auto size = static_cast<size_t>(facts.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) return system_error("cannot map", path);
  MappedFile mapped;
  mapped.bytes_ = {static_cast<const std::byte*>(address), size};
  return mapped;
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::release(std::span<const std::byte> part) const {
  // Who reads a page is given all of its aligned 64 KiB: the first read behind this part brings its
  // end back, and the release of what follows has to cover that.
  constexpr uintptr_t kGivenTogether = 64 << 10;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(bytes_.data());
  const uintptr_t last = (first + bytes_.size() + page - 1) / page * page;
  const auto from = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t to = from + part.size();
  const uintptr_t begin = std::max(first, from / kGivenTogether * kGivenTogether);
  const uintptr_t end = std::min(last, (to + kGivenTogether - 1) / kGivenTogether * kGivenTogether);
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace shoal
