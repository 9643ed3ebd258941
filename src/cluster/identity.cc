#include "cluster/identity.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "base/file.h"

namespace shoal::cluster {
namespace {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;

constexpr uint64_t kLargestFileBytes = 64 << 10;

Result<std::string> text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  if (size <= 0) return fail(ErrorCode::kInternal, "cannot write a key as text");
  return std::string(data, static_cast<size_t>(size));
}

Result<Key> make_key() {
  const KeyContext context(EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nullptr));
  EVP_PKEY* key = nullptr;
  if (!context || EVP_PKEY_keygen_init(context.get()) != 1 ||
      EVP_PKEY_keygen(context.get(), &key) != 1) {
    return fail(ErrorCode::kInternal, "cannot make an Ed25519 key: OpenSSL refused");
  }
  return Key(key);
}

// Peers ignore names and dates; they are set because libraries want some.
Result<Certificate> self_sign(EVP_PKEY* key) {
  Certificate certificate(X509_new());
  const Bytes serial = random_bytes(8);
  uint64_t number = 1;
  std::memcpy(&number, serial.data(), serial.size());
  constexpr long kYears = 100L * 365 * 24 * 3600;
  const auto* name = reinterpret_cast<const unsigned char*>("shoal node");
  const bool made =
      certificate && X509_set_version(certificate.get(), X509_VERSION_3) == 1 &&
      ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), number >> 1) == 1 &&
      ASN1_TIME_set_string_X509(X509_getm_notBefore(certificate.get()), "20200101000000Z") == 1 &&
      X509_time_adj_ex(X509_getm_notAfter(certificate.get()), 0, kYears, nullptr) != nullptr &&
      X509_set_pubkey(certificate.get(), key) == 1 &&
      X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC, name,
                                 -1, -1, 0) == 1 &&
      X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get())) == 1 &&
      X509_sign(certificate.get(), key, nullptr) > 0;
  if (!made) return fail(ErrorCode::kInternal, "cannot make a certificate: OpenSSL refused");
  return certificate;
}

Result<std::string> make_identity_text() {
  SHOAL_ASSIGN(const Key key, make_key());
  SHOAL_ASSIGN(const Certificate certificate, self_sign(key.get()));
  const Bio bio(BIO_new(BIO_s_mem()));
  if (!bio ||
      PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
          1 ||
      PEM_write_bio_X509(bio.get(), certificate.get()) != 1) {
    return fail(ErrorCode::kInternal, "cannot write the new identity as text");
  }
  return text_of(bio.get());
}

// A file that asks for a password must not make a daemon ask for one.
int no_password(char*, int, int, void*) {
  return -1;
}

Bio reader_of(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Result<Identity> parse_identity(const std::string& text, const std::string& path) {
  const auto damaged = [&](std::string_view what) {
    return fail(ErrorCode::kCorrupt,
                "{} is damaged ({}): put it back from a backup, or move it away to begin as a new "
                "node, which the "
                "others must invite again",
                path, what);
  };
  const Key key(PEM_read_bio_PrivateKey(reader_of(text).get(), nullptr, no_password, nullptr));
  if (!key) return damaged("it holds no private key that can be read");
  if (EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_ED25519)
    return damaged("its key is not an Ed25519 key");
  const Certificate certificate(
      PEM_read_bio_X509(reader_of(text).get(), nullptr, no_password, nullptr));
  if (!certificate) return damaged("it holds no certificate that can be read");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return damaged("its key and its certificate do not belong together");
  }
  Identity identity;
  const Bio key_out(BIO_new(BIO_s_mem()));
  const Bio certificate_out(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(key_out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  PEM_write_bio_X509(certificate_out.get(), certificate.get());
  SHOAL_ASSIGN(identity.tls.private_key_pem, text_of(key_out.get()));
  SHOAL_ASSIGN(identity.tls.certificate_pem, text_of(certificate_out.get()));
  SHOAL_ASSIGN(identity.id, http::fingerprint_of_certificate(identity.tls.certificate_pem));
  return identity;
}

}  // namespace

Result<Identity> load_or_make_identity(const std::string& home) {
  SHOAL_TRY(make_directories(home));
  const std::string path = home + "/identity.pem";
  struct stat facts;
  if (::lstat(path.c_str(), &facts) != 0) {
    if (errno != ENOENT) return system_error("cannot examine", path);
    SHOAL_ASSIGN(const std::string fresh, make_identity_text());
    SHOAL_TRY(write_file_atomically(path, fresh));
    return parse_identity(fresh, path);
  }
  if ((facts.st_mode & 077) != 0) {
    return fail(ErrorCode::kPermission,
                "{} may be read by others (mode {:04o}): chmod 600 it, and if it was copied, make "
                "a new one",
                path, static_cast<unsigned>(facts.st_mode & 07777));
  }
  SHOAL_ASSIGN(const std::string text, read_file(path, kLargestFileBytes));
  return parse_identity(text, path);
}

}  // namespace shoal::cluster
