#include "store/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/json.h"
#include "base/units.h"

namespace shoal {
namespace {

constexpr uint64_t kSpareBytes = 16 << 20;  // for the database, logs and everybody else

std::string facts_text(const PartFile::Identity& identity) {
  Json facts{{"version", 1}, {"origin", identity.origin}, {"validator", identity.validator}};
  if (identity.total_bytes) facts["total_bytes"] = *identity.total_bytes;
  return dump_json(facts, 1) + "\n";
}

std::optional<PartFile::Identity> read_facts(const std::string& path) {
  const auto text = read_file(path, 1 << 20);
  if (!text) return std::nullopt;
  const auto facts = parse_json(*text);
  if (!facts || json_field_or<uint64_t>(*facts, "version", 0).value_or(0) != 1) return std::nullopt;
  PartFile::Identity identity;
  identity.origin = json_field_or<std::string>(*facts, "origin", "").value_or("");
  identity.validator = json_field_or<std::string>(*facts, "validator", "").value_or("");
  if (const auto total = json_field<uint64_t>(*facts, "total_bytes")) identity.total_bytes = *total;
  return identity;
}

}  // namespace

std::string parent_directory(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

void flush_directory(const std::string& directory) {
  const UniqueFd handle(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (handle) ::fsync(handle.get());
}

Status check_free_space(const std::string& directory, uint64_t needed_bytes) {
  struct statvfs facts;
  if (::statvfs(directory.c_str(), &facts) != 0) return system_error("cannot examine", directory);
  const uint64_t free_bytes = uint64_t{facts.f_bavail} * facts.f_frsize;
  if (free_bytes >= needed_bytes && free_bytes - needed_bytes >= kSpareBytes) return {};
  return fail(ErrorCode::kStorageFull,
              "the download needs {} more in {} (and {} to spare), where {} are free; free some "
              "space, or put Shoal's "
              "home elsewhere with --home",
              format_bytes(needed_bytes), directory, format_bytes(kSpareBytes),
              format_bytes(free_bytes));
}

PartFile::PartFile(std::string destination)
    : destination_(std::move(destination)),
      path_(destination_ + ".part"),
      facts_path_(path_ + ".json") {}

Status PartFile::open(const std::string& origin,
                      const std::function<bool(uint64_t, uint64_t)>& progress) {
  file_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (!file_ && errno == ENOENT) return {};
  if (!file_) return system_error("cannot open", path_);
  struct stat facts;
  if (::fstat(file_.get(), &facts) != 0) return system_error("cannot examine", path_);
  const auto size = static_cast<uint64_t>(facts.st_size);
  auto identity = read_facts(facts_path_);
  const bool of_use = identity && identity->origin == origin && size > 0 &&
                      (!identity->total_bytes || size <= *identity->total_bytes);
  if (!of_use) return {};  // start() empties it
  identity_ = std::move(identity);
  return hash_what_is_there(size, progress);
}

Status PartFile::hash_what_is_there(uint64_t size_bytes,
                                    const std::function<bool(uint64_t, uint64_t)>& progress) {
  Bytes buffer(1 << 20);
  while (true) {
    const ssize_t got = ::read(file_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read", path_);
    if (got == 0) break;
    hash_.add(std::span(buffer).first(static_cast<size_t>(got)));
    size_bytes_ += static_cast<uint64_t>(got);
    if (progress && !progress(size_bytes_, size_bytes)) {
      return fail(ErrorCode::kCancelled, "the download was cancelled; what has arrived is kept");
    }
  }
  holds_earlier_bytes_ = size_bytes_ > 0;
  return {};
}

Status PartFile::start(const Identity& identity) {
  // The facts go before the bytes: whatever moment this process is killed at, bytes on disk are
  // never taken for those of another file.
  if (::unlink(facts_path_.c_str()) != 0 && errno != ENOENT)
    return system_error("cannot remove", facts_path_);
  if (!file_) file_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file_) return system_error("cannot create", path_);
  if (::ftruncate(file_.get(), 0) != 0) return system_error("cannot empty", path_);
  if (::lseek(file_.get(), 0, SEEK_SET) != 0) return system_error("cannot rewind", path_);
  SHOAL_TRY(write_file_atomically(facts_path_, facts_text(identity)));
  hash_ = Sha256();
  size_bytes_ = 0;
  holds_earlier_bytes_ = false;
  identity_ = identity;
  return {};
}

Status PartFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(file_.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
      return fail(ErrorCode::kStorageFull,
                  "the disk of {} is full (or a quota is reached) after {}; what has arrived is "
                  "kept: free some space "
                  "and pull again to go on from there",
                  path_, format_bytes(size_bytes_));
    }
    if (put < 0) return system_error("cannot write", path_);
    hash_.add(bytes.first(static_cast<size_t>(put)));
    size_bytes_ += static_cast<uint64_t>(put);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

void PartFile::discard() {
  file_.reset();
  ::unlink(facts_path_.c_str());
  ::unlink(path_.c_str());
  hash_ = Sha256();
  size_bytes_ = 0;
  identity_.reset();
  holds_earlier_bytes_ = false;
}

std::string PartFile::finish_hash() {
  return hash_.finish();
}

Status PartFile::publish() {
  if (::fsync(file_.get()) != 0) return system_error("cannot flush", path_);
  if (::rename(path_.c_str(), destination_.c_str()) != 0)
    return system_error("cannot replace", destination_);
  ::unlink(facts_path_.c_str());
  flush_directory(parent_directory(destination_));
  file_.reset();
  return {};
}

}  // namespace shoal
