// Reading of GGUF v2 and v3 files, memory-mapped. Every count, offset, string and type is checked
// before use: nothing outside the file is read, nothing is allocated that the file's size cannot
// justify. Errors name the file, the field and the offset. Immutable after open, so any thread may
// read. The format: docs/formats/gguf-support.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/backend.h"

namespace shoal::gguf {

struct Array;
using Value = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                           std::string_view, Array, uint64_t, int64_t,
                           double>;  // in the order of the format's type numbers

// An array of one element type, still in the file. Strings are found by a walk, in order.
struct Array {
  uint32_t element_type;
  uint64_t count;
  std::span<const std::byte> bytes;  // all elements, checked
};

// Type numbers of metadata, as in the file.
enum class ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
std::string_view value_type_name(uint32_t type);  // "uint32"; "unknown" for other numbers

// Text from a file as it may stand in a sentence: quoted, control characters and what is not UTF-8
// escaped, shortened.
std::string printable(std::string_view text);

struct TensorInfo {
  std::string_view name;
  uint32_t type;  // may be one that Shoal does not support
  std::vector<int64_t>
      dimensions;       // as in the file: the first runs fastest (columns); 1 to 4 of them
  uint64_t offset;      // in the file, of a split model in its part's
  uint64_t size_bytes;  // 0 when the type is unknown to the format
  uint32_t part = 0;    // of a split model: in which file, counted from 0
};

class File {
 public:
  // Of a split model any part: the others are found beside it, and read as one model.
  static Result<File> open(const std::string& path);
  // The same over bytes in memory; `name` stands for the path in errors. The bytes must outlive the
  // File.
  static Result<File> parse(std::span<const std::byte> bytes, std::string name);
  // All parts of a split model, in order.
  struct NamedBytes {
    std::span<const std::byte> bytes;
    std::string name;
  };
  static Result<File> parse_parts(const std::vector<NamedBytes>& parts);
  // How much of a file of `file_bytes` must be there to know its metadata and where its tensors
  // lie, looking at its beginning: a number above beginning.size() when that is too short (ask
  // again with as much), else where the header ends. Errors as of parse.
  static Result<uint64_t> header_bytes(std::span<const std::byte> beginning, uint64_t file_bytes,
                                       std::string name);

  const std::string& path() const;  // of a split model its first part's
  uint32_t version() const;
  uint64_t size_bytes() const;  // of all parts
  size_t part_count() const;    // 1: not split
  uint64_t alignment() const;

  struct Entry {
    std::string_view key;
    Value value;
  };
  std::span<const Entry> metadata() const;  // in file order
  std::span<const TensorInfo> tensors() const;
  const Value* find(std::string_view key) const;
  const TensorInfo* find_tensor(std::string_view name) const;
  std::span<const std::byte> tensor_bytes(const TensorInfo& tensor) const;

  // Typed reading. kNotFound when absent, kCorrupt when of another kind or out of range; both name
  // file and key. Integers of any width and sign convert when the value fits.
  Result<int64_t> integer(std::string_view key) const;
  Result<double> number(std::string_view key) const;
  Result<bool> boolean(std::string_view key) const;
  Result<std::string_view> string(std::string_view key) const;
  Result<std::vector<std::string_view>> strings(std::string_view key) const;
  Result<std::vector<int64_t>> integers(
      std::string_view key) const;  // a single integer gives one element
  Result<std::vector<double>> numbers(std::string_view key) const;

  // The tensor's bytes with its shape flattened to rows x columns. kUnsupported names tensor, type
  // and what is supported.
  Result<TensorSource> tensor(std::string_view name) const;
  // The bytes of this tensor will not be read again: lets their pages leave the resident set.
  void release(const TensorInfo& tensor) const;
  // The same of a part of them, and of all that was read so far, metadata included. Only a wish:
  // who reads again gets the pages back.
  void release(const TensorInfo& tensor, std::span<const std::byte> part) const;
  void release_all() const;

 private:
  friend class Parser;
  Result<const Value*> get(std::string_view key) const;
  std::unexpected<Error> wrong_kind(std::string_view key, std::string_view wanted) const;

  static Result<File> open_one(const std::string& path);
  static Result<File> parse_one(std::span<const std::byte> bytes, std::string name);
  static Result<File> join(std::vector<File> parts);

  struct Part {
    MappedFile mapped;  // empty when the bytes are somebody else's
    std::span<const std::byte> bytes;
  };
  std::string path_;
  std::vector<Part> parts_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  std::vector<Entry> metadata_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint32_t> entry_order_;   // indices into metadata_, by key
  std::vector<uint32_t> tensor_order_;  // indices into tensors_, by name
};

}  // namespace shoal::gguf
