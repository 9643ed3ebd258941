// Hashes, random bytes and hexadecimal text. Pure but for random_bytes; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace shoal {

using Bytes = std::vector<std::byte>;

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string to_hex(std::span<const std::byte> bytes);  // lower case
Result<Bytes> from_hex(std::string_view hex);          // kInvalidArgument
Bytes random_bytes(size_t count);                      // from the operating system's generator
bool equal_in_constant_time(std::span<const std::byte> a, std::span<const std::byte> b);

// SHA-256 in pieces (FIPS 180-4, by OpenSSL).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void add(std::span<const std::byte> bytes);
  std::string finish();  // 64 hexadecimal digits; the object is spent

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256(std::string_view text);
Bytes hmac_sha256(std::span<const std::byte> key, std::span<const std::byte> message);

// Reads the whole file once. `progress(bytes_done)` may return false to stop (kCancelled).
Result<std::string> sha256_of_file(const std::string& path,
                                   const std::function<bool(uint64_t)>& progress = {});

}  // namespace shoal
