// Writes small GGUF files in memory for tests and fuzzing: correct ones by default, and broken ones
// on request.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "tensor/element_type.h"

namespace shoal::gguf {

template <typename T>
std::string little_endian(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

inline std::string text_bytes(std::string_view text) {
  return little_endian<uint64_t>(text.size()) + std::string(text);
}

template <typename T>
constexpr uint32_t value_type_number() {
  if constexpr (std::is_same_v<T, uint8_t>) return 0;
  if constexpr (std::is_same_v<T, int8_t>) return 1;
  if constexpr (std::is_same_v<T, uint16_t>) return 2;
  if constexpr (std::is_same_v<T, int16_t>) return 3;
  if constexpr (std::is_same_v<T, uint32_t>) return 4;
  if constexpr (std::is_same_v<T, int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, uint64_t>) return 10;
  if constexpr (std::is_same_v<T, int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
}

class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3, uint64_t alignment = 32)
      : version_(version), alignment_(alignment) {}

  // An entry of any type number and payload, however wrong.
  GgufWriter& raw(std::string_view key, uint32_t type, std::string_view payload) {
    metadata_ += text_bytes(key) + little_endian(type) + std::string(payload);
    ++entry_count;
    return *this;
  }
  template <typename T>
    requires std::is_arithmetic_v<T>
  GgufWriter& add(std::string_view key, T value) {
    return raw(key, value_type_number<T>(), little_endian(value));
  }
  GgufWriter& add(std::string_view key, std::string_view text) {
    return raw(key, 8, text_bytes(text));
  }
  GgufWriter& add(std::string_view key, const char* text) {
    return add(key, std::string_view(text));
  }
  GgufWriter& add_strings(std::string_view key, const std::vector<std::string>& texts) {
    std::string payload = little_endian<uint32_t>(8) + little_endian<uint64_t>(texts.size());
    for (const std::string& text : texts) payload += text_bytes(text);
    return raw(key, 9, payload);
  }
  template <typename T>
  GgufWriter& add_array(std::string_view key, const std::vector<T>& values) {
    std::string payload =
        little_endian(value_type_number<T>()) + little_endian<uint64_t>(values.size());
    for (const T value : values) payload += little_endian(value);
    return raw(key, 9, payload);
  }

  // A tensor whose data is placed after the one before it.
  GgufWriter& tensor(std::string_view name, uint32_t type, const std::vector<uint64_t>& dimensions,
                     std::string_view data) {
    describe(name, type, dimensions, data_.size());
    data_ += data;
    last_padding_ = (alignment_ - data_.size() % alignment_) % alignment_;
    data_.append(last_padding_, '\0');
    return *this;
  }
  GgufWriter& tensor(std::string_view name, const std::vector<uint64_t>& dimensions,
                     std::span<const float> values) {
    return tensor(name, 0, dimensions, as_text(std::as_bytes(values)));
  }
  // Only the description, with any offset: the data may be missing or somebody else's.
  GgufWriter& describe(std::string_view name, uint32_t type,
                       const std::vector<uint64_t>& dimensions, uint64_t offset) {
    tensors_ += text_bytes(name) + little_endian(static_cast<uint32_t>(dimensions.size()));
    for (const uint64_t dimension : dimensions) tensors_ += little_endian(dimension);
    tensors_ += little_endian(type) + little_endian(offset);
    ++tensor_count;
    return *this;
  }
  GgufWriter& data(std::string_view bytes) {
    data_ += bytes;
    last_padding_ = 0;
    return *this;
  }

  // The file; the padding behind the last tensor is left out, so that every byte matters.
  std::string finish() const {
    std::string file = "GGUF" + little_endian(version_) + little_endian(tensor_count) +
                       little_endian(entry_count) + metadata_ + tensors_;
    if (tensor_count == 0) return file;
    file.append((alignment_ - file.size() % alignment_) % alignment_, '\0');
    return file + data_.substr(0, data_.size() - last_padding_);
  }

  uint64_t tensor_count = 0;  // as the header will say
  uint64_t entry_count = 0;

 private:
  uint32_t version_;
  uint64_t alignment_;
  std::string metadata_;
  std::string tensors_;
  std::string data_;
  size_t last_padding_ = 0;
};

}  // namespace shoal::gguf
