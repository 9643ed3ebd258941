// One pass over the bytes of a GGUF file that fills a File, or says what is wrong with it and
// where. Used by gguf.cc alone; one thread, one use. Every read is checked against the end of the
// bytes before it is made.
#pragma once

#include <cstring>
#include <span>
#include <string_view>

#include "gguf/gguf.h"

namespace shoal::gguf {

class Parser {
 public:
  // Fills everything but the parts of `file`, whose path is set. `bytes` may be only the beginning
  // of the file, of which it then is enough to hold the header.
  Parser(File& file, std::span<const std::byte> bytes, uint64_t file_bytes)
      : file_(file), bytes_(bytes), file_bytes_(file_bytes) {}
  Status parse();
  // After a failure: so much of the beginning would have been needed; 0: the file is at fault.
  uint64_t wanted_bytes() const { return wanted_bytes_; }
  uint64_t header_end() const { return position_; }

 private:
  Status parse_header();
  Status refuse_other_format() const;
  Status parse_metadata();
  Result<Value> parse_value(std::string_view key, uint32_t type);
  Result<Value> parse_array(std::string_view key);
  Status check_key_order();
  Status parse_alignment();
  Status parse_tensor_infos();
  Result<TensorInfo> parse_tensor_info(uint64_t index);
  Status parse_dimensions(TensorInfo& tensor);
  Status check_tensor_order();
  Status place_tensors();
  Status check_tail(uint64_t data_end) const;

  uint64_t left() const { return file_bytes_ - position_; }
  // That the next `count` bytes, which lie inside the file, lie inside what we have of it as well.
  Status have(uint64_t count, std::string_view what);
  // The file ends inside `what`, which needs so many bytes at the present position.
  std::unexpected<Error> cut_short(std::string_view what, uint64_t needed) const;
  template <typename... Args>
  std::unexpected<Error> corrupt(uint64_t offset, std::string_view field,
                                 fmt::format_string<Args...> sentence, Args&&... args) const {
    return fail(ErrorCode::kCorrupt, "{}: {} at offset {}: {}", file_.path_, field, offset,
                fmt::format(sentence, std::forward<Args>(args)...));
  }
  template <typename T>
  Result<T> read(std::string_view field);
  Result<std::string_view> read_string(std::string_view field);

  File& file_;
  std::span<const std::byte> bytes_;
  const uint64_t file_bytes_;
  uint64_t wanted_bytes_ = 0;
  uint64_t position_ = 0;
  uint64_t tensor_count_ = 0;
  uint64_t entry_count_ = 0;
};

template <typename T>
Result<T> Parser::read(std::string_view field) {
  if (left() < sizeof(T)) return cut_short(field, sizeof(T));
  SHOAL_TRY(have(sizeof(T), field));
  T value;
  std::memcpy(&value, bytes_.data() + position_, sizeof(T));
  position_ += sizeof(T);
  return value;
}

}  // namespace shoal::gguf
