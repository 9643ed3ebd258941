#include <curl/curl.h>

#include <cctype>
#include <memory>

#include "store/http_transfer.h"

namespace shoal {
namespace {

class Url {
 public:
  Url() : handle_(curl_url()) {}
  ~Url() { curl_url_cleanup(handle_); }
  Url(const Url&) = delete;
  Url& operator=(const Url&) = delete;

  bool set(CURLUPart part, const char* text) {
    return curl_url_set(handle_, part, text, 0) == CURLUE_OK;
  }
  std::string get(CURLUPart part, unsigned flags = 0) const {
    char* text = nullptr;
    if (curl_url_get(handle_, part, &text, flags) != CURLUE_OK) return "";
    std::string copy(text);
    curl_free(text);
    return copy;
  }

 private:
  CURLU* handle_;
};

}  // namespace

std::string shown_url(const std::string& url) {
  Url parsed;
  if (!parsed.set(CURLUPART_URL, url.c_str())) return url.substr(0, url.find_first_of("?@#"));
  parsed.set(CURLUPART_USER, nullptr);
  parsed.set(CURLUPART_PASSWORD, nullptr);
  parsed.set(CURLUPART_QUERY, nullptr);
  parsed.set(CURLUPART_FRAGMENT, nullptr);
  return parsed.get(CURLUPART_URL);
}

std::string resolve_url(const std::string& base, const std::string& reference) {
  Url parsed;
  if (!parsed.set(CURLUPART_URL, base.c_str())) return "";
  parsed.set(CURLUPART_FRAGMENT, nullptr);
  if (!parsed.set(CURLUPART_URL, reference.c_str())) return "";
  return parsed.get(CURLUPART_URL);
}

std::string with_credentials_of(const std::string& base, const std::string& url) {
  Url from, to;
  if (!from.set(CURLUPART_URL, base.c_str()) || !to.set(CURLUPART_URL, url.c_str())) return url;
  const std::string user = from.get(CURLUPART_USER);
  if (user.empty() || !to.get(CURLUPART_USER).empty()) return url;
  for (const CURLUPart part : {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT}) {
    if (from.get(part, CURLU_DEFAULT_PORT) != to.get(part, CURLU_DEFAULT_PORT)) return url;
  }
  to.set(CURLUPART_USER, user.c_str());
  const std::string password = from.get(CURLUPART_PASSWORD);
  if (!password.empty()) to.set(CURLUPART_PASSWORD, password.c_str());
  return to.get(CURLUPART_URL);
}

std::string encode_path(std::string_view path) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || std::string_view("-._~/+").find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      encoded += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return encoded;
}

}  // namespace shoal
