// A download under way: NAME.part with the bytes so far, NAME.part.json with what the server said
// of the file. Both survive a kill; the next PartFile over them goes on where they stopped. One
// thread; one process at a time (the store's lock sees to it).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"

namespace shoal {

class PartFile {
 public:
  // What must be equal for the bytes so far to be of use.
  struct Identity {
    std::string origin;     // the URL, or another name of the content
    std::string validator;  // ETag or date, as the server gave it; "" when it gave none
    std::optional<uint64_t> total_bytes;
  };

  explicit PartFile(std::string destination);

  // Takes up what an earlier run left if it came from `origin`; otherwise starts with nothing.
  // Reads and hashes what is there: `progress(done, total)` may return false to stop (kCancelled).
  Status open(const std::string& origin, const std::function<bool(uint64_t, uint64_t)>& progress);
  // Throws the bytes away and starts anew for a file of this identity.
  Status start(const Identity& identity);
  // kStorageFull (a sentence with the numbers; what fitted is kept), kIo.
  Status append(std::span<const std::byte> bytes);
  // Forgets everything, on disk as well.
  void discard();
  // SHA-256 of all the bytes; append may not follow.
  std::string finish_hash();
  // Flushes and renames onto the destination, whatever was there.
  Status publish();

  uint64_t size_bytes() const { return size_bytes_; }
  const std::optional<Identity>& identity() const { return identity_; }
  bool holds_earlier_bytes() const { return holds_earlier_bytes_; }

 private:
  Status hash_what_is_there(uint64_t size_bytes,
                            const std::function<bool(uint64_t, uint64_t)>& progress);

  std::string destination_;
  std::string path_;
  std::string facts_path_;
  UniqueFd file_;
  Sha256 hash_;
  uint64_t size_bytes_ = 0;
  std::optional<Identity> identity_;
  bool holds_earlier_bytes_ = false;  // from before open()
};

// kStorageFull with the numbers when the file system of `directory` cannot take `needed_bytes`
// more.
Status check_free_space(const std::string& directory, uint64_t needed_bytes);
std::string parent_directory(const std::string& path);
// Makes a rename in this directory last through a power cut.
void flush_directory(const std::string& directory);

}  // namespace shoal
