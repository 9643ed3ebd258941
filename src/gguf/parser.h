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
  // Fills everything but the mapping of `file`, whose path is set.
  Parser(File& file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes) {}
  Status parse();

 private:
  Status parse_header();
  Status refuse_other_format() const;
  Status parse_metadata();
  Result<Value> parse_value(std::string_view key, uint32_t type);
  Result<Value> parse_array(std::string_view key);
  Status check_key_order();
  Status check_split() const;
  Status parse_alignment();
  Status parse_tensor_infos();
  Result<TensorInfo> parse_tensor_info(uint64_t index);
  Status parse_dimensions(TensorInfo& tensor);
  Status check_tensor_order();
  Status place_tensors();
  Status check_tail(uint64_t data_end) const;

  uint64_t left() const { return bytes_.size() - position_; }
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
  uint64_t position_ = 0;
  uint64_t tensor_count_ = 0;
  uint64_t entry_count_ = 0;
};

template <typename T>
Result<T> Parser::read(std::string_view field) {
  if (left() < sizeof(T)) return cut_short(field, sizeof(T));
  T value;
  std::memcpy(&value, bytes_.data() + position_, sizeof(T));
  position_ += sizeof(T);
  return value;
}

}  // namespace shoal::gguf
