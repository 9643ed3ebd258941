#include "base/bytes.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/file.h"

namespace shoal {

std::string to_hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (std::byte byte : bytes) {
    hex += kDigits[static_cast<unsigned>(byte) >> 4];
    hex += kDigits[static_cast<unsigned>(byte) & 15];
  }
  return hex;
}

Result<Bytes> from_hex(std::string_view hex) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  Bytes bytes;
  bytes.reserve(hex.size() / 2);
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    const int high = digit(hex[i]);
    const int low = digit(hex[i + 1]);
    if (high < 0 || low < 0)
      return fail(ErrorCode::kInvalidArgument, "'{}' is not hexadecimal", hex);
    bytes.push_back(static_cast<std::byte>(high * 16 + low));
  }
  if (hex.size() % 2 != 0)
    return fail(ErrorCode::kInvalidArgument, "'{}' has an odd number of hexadecimal digits", hex);
  return bytes;
}

Bytes random_bytes(size_t count) {
  Bytes bytes(count);
  SHOAL_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count)) ==
              1);
  return bytes;
}

bool equal_in_constant_time(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  SHOAL_CHECK(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::add(std::span<const std::byte> bytes) {
  SHOAL_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::finish() {
  std::array<std::byte, 32> digest;
  unsigned length = 0;
  SHOAL_CHECK(EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(digest.data()),
                                 &length) == 1);
  return to_hex(digest);
}

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.add(as_bytes(text));
  return hash.finish();
}

Bytes hmac_sha256(std::span<const std::byte> key, std::span<const std::byte> message) {
  Bytes digest(32);
  unsigned length = 0;
  SHOAL_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                   reinterpret_cast<const unsigned char*>(message.data()), message.size(),
                   reinterpret_cast<unsigned char*>(digest.data()), &length) != nullptr);
  return digest;
}

Result<std::string> sha256_of_file(const std::string& path,
                                   const std::function<bool(uint64_t)>& progress) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return system_error("cannot open", path);
  Sha256 hash;
  Bytes buffer(4 << 20);
  uint64_t done = 0;
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read", path);
    if (got == 0) return hash.finish();
    hash.add(std::span(buffer).first(static_cast<size_t>(got)));
    done += static_cast<uint64_t>(got);
    if (progress && !progress(done))
      return fail(ErrorCode::kCancelled, "hashing {} was cancelled", path);
  }
}

}  // namespace shoal
