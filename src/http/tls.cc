#include "http/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/bytes.h"

namespace shoal::http {
namespace {

std::string last_openssl_error() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return text.data();
}

struct Free {
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
};

std::unique_ptr<X509, Free> certificate_from_pem(const std::string& pem) {
  const std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return std::unique_ptr<X509, Free>(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

// Replaces OpenSSL's chain building: whose key it is decides, and nothing else.
int verify_peer(X509_STORE_CTX* store, void* argument) {
  const auto* tls = static_cast<const TlsContext*>(argument);
  bool accepted = false;
  try {
    accepted = tls->check(fingerprint_of(X509_STORE_CTX_get0_cert(store)));
  } catch (...) {
  }
  X509_STORE_CTX_set_error(store, accepted ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
  return accepted ? 1 : 0;
}

}  // namespace

std::string fingerprint_of(X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  if (size <= 0) return {};
  const std::string key(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return sha256(key);
}

Result<std::string> fingerprint_of_certificate(const std::string& certificate_pem) {
  const auto certificate = certificate_from_pem(certificate_pem);
  if (!certificate) {
    return fail(ErrorCode::kInvalidArgument, "not a certificate in PEM: {}", last_openssl_error());
  }
  return fingerprint_of(certificate.get());
}

Result<std::shared_ptr<TlsContext>> make_tls_context(const TlsIdentity& identity, bool server,
                                                     PeerCheck check) {
  auto tls = std::make_shared<TlsContext>();
  tls->check = std::move(check);
  SSL_CTX* context = tls->context.native_handle();
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  const int mode =
      server ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : int{SSL_VERIFY_PEER};
  SSL_CTX_set_verify(context, mode, nullptr);
  SSL_CTX_set_cert_verify_callback(context, &verify_peer, tls.get());

  const auto certificate = certificate_from_pem(identity.certificate_pem);
  const std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(
      identity.private_key_pem.data(), static_cast<int>(identity.private_key_pem.size())));
  const std::unique_ptr<EVP_PKEY, Free> key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  if (!certificate || !key || SSL_CTX_use_certificate(context, certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return fail(ErrorCode::kInvalidArgument,
                "this node's certificate and private key are not a pair in PEM ({})",
                last_openssl_error());
  }
  return tls;
}

}  // namespace shoal::http
