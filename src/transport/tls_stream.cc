#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "transport/byte_stream.h"
#include "transport/socket.h"

namespace shoal {
namespace {

constexpr size_t kKeyBytes = 32;
constexpr std::string_view kIdentity = "shoal link";
constexpr std::string_view kMagic = "SHOALTL";             // of the greeting inside
constexpr size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;  // 16 KiB
constexpr size_t kRecordRoom =
    kRecordBytes + SSL3_RT_MAX_ENCRYPTED_OVERHEAD + SSL3_RT_HEADER_LENGTH;
// Four records a system call: encrypting the next ones overlaps with the kernel's sending, at a
// small cost of memory.
constexpr size_t kBufferBytes = 4 * kRecordRoom;
constexpr unsigned char kAes128GcmSha256[] = {0x13, 0x01};  // RFC 8446 B.4

struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(BIO_METHOD* method) const { BIO_meth_free(method); }
};

// Encrypted bytes between OpenSSL and the socket.
struct Buffer {
  std::vector<std::byte> bytes = std::vector<std::byte>(kBufferBytes);
  size_t begin = 0;
  size_t end = 0;

  std::span<const std::byte> filled() const { return std::span(bytes).subspan(begin, end - begin); }
  std::span<std::byte> room() { return std::span(bytes).subspan(end); }
  void take(size_t count) {
    begin += count;
    if (begin == end) begin = end = 0;
  }
};

class TlsStream final : public ByteStream {
 public:
  TlsStream(UniqueFd socket, std::span<const std::byte> key, std::string peer,
            uint64_t records_per_key)
      : ByteStream(std::move(socket), std::move(peer)), records_per_key_(records_per_key) {
    std::ranges::copy(key, key_.begin());
  }
  ~TlsStream() override { OPENSSL_cleanse(key_.data(), key_.size()); }

  Status shake_hands(bool dialled, Deadline deadline);
  Result<size_t> write(std::span<const std::byte> head, std::span<const std::byte> body) override;
  Result<size_t> read(std::span<std::byte> head, std::span<std::byte> body) override;
  Result<bool> flush() override;
  bool flushed() const override { return outgoing_.begin == outgoing_.end; }

 private:
  friend int bio_write(BIO*, const char*, size_t, size_t*);
  friend int bio_read(BIO*, char*, size_t, size_t*);
  friend int use_session(SSL*, const EVP_MD*, const unsigned char**, size_t*, SSL_SESSION**);
  friend int find_session(SSL*, const unsigned char*, size_t, SSL_SESSION**);

  Status set_up(bool dialled);
  SSL_SESSION* make_session() const;
  std::unexpected<Error> handshake_failure();
  std::unexpected<Error> failure();
  Result<bool> fill();
  Result<bool> write_record(std::span<const std::byte> plain);
  Result<size_t> read_some(std::span<std::byte> to);

  std::array<std::byte, kKeyBytes> key_;
  uint64_t records_per_key_;
  uint64_t records_sent_ = 0;
  std::unique_ptr<SSL_CTX, FreeSsl> context_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  Buffer outgoing_;
  Buffer incoming_;
  std::array<std::byte, kRecordBytes> staging_;
  std::optional<Error> socket_error_;  // what the socket said while OpenSSL asked
};

// --- between OpenSSL and the buffers ---

// Records go to a buffer of ours and from there to the socket by sendmsg with MSG_NOSIGNAL:
// OpenSSL's own socket BIO would write(), and a vanished peer would raise SIGPIPE.
int bio_write(BIO* bio, const char* data, size_t size, size_t* written) {
  auto* const stream = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const size_t count = std::min(size, stream->outgoing_.room().size());
  std::memcpy(stream->outgoing_.room().data(), data, count);
  stream->outgoing_.end += count;
  *written = count;
  if (count == 0) BIO_set_retry_write(bio);
  return count > 0 ? 1 : 0;
}

int bio_read(BIO* bio, char* data, size_t size, size_t* got) {
  auto* const stream = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *got = 0;
  if (stream->incoming_.filled().empty()) {
    const auto filled = stream->fill();
    if (!filled) {
      stream->socket_error_ = filled.error();
      return 0;
    }
    if (!*filled) {
      BIO_set_retry_read(bio);
      return 0;
    }
  }
  const auto bytes = stream->incoming_.filled();
  *got = std::min(size, bytes.size());
  std::memcpy(data, bytes.data(), *got);
  stream->incoming_.take(*got);
  return 1;
}

long bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

int bio_create(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

const BIO_METHOD* bio_method() {
  static const std::unique_ptr<BIO_METHOD, FreeSsl> method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "shoal link");
    SHOAL_CHECK(made != nullptr);
    BIO_meth_set_write_ex(made, bio_write);
    BIO_meth_set_read_ex(made, bio_read);
    BIO_meth_set_ctrl(made, bio_control);
    BIO_meth_set_create(made, bio_create);
    return std::unique_ptr<BIO_METHOD, FreeSsl>(made);
  }();
  return method.get();
}

// --- the pre-shared key ---

int use_session(SSL* ssl, const EVP_MD* digest, const unsigned char** identity, size_t* size,
                SSL_SESSION** session) {
  auto* const stream = static_cast<TlsStream*>(SSL_get_app_data(ssl));
  *session = nullptr;
  // The second call, after a retry request, names the digest that the server chose; ours is
  // SHA-256.
  if (digest != nullptr && EVP_MD_get_type(digest) != NID_sha256) return 0;
  *identity = reinterpret_cast<const unsigned char*>(kIdentity.data());
  *size = kIdentity.size();
  *session = stream->make_session();
  return *session != nullptr ? 1 : 0;
}

int find_session(SSL* ssl, const unsigned char* identity, size_t size, SSL_SESSION** session) {
  auto* const stream = static_cast<TlsStream*>(SSL_get_app_data(ssl));
  *session = nullptr;
  if (std::string_view(reinterpret_cast<const char*>(identity), size) != kIdentity) return 1;
  *session = stream->make_session();
  return *session != nullptr ? 1 : 0;
}

SSL_SESSION* TlsStream::make_session() const {
  SSL_SESSION* const session = SSL_SESSION_new();
  const SSL_CIPHER* const cipher = SSL_CIPHER_find(ssl_.get(), kAes128GcmSha256);
  const auto* const key = reinterpret_cast<const unsigned char*>(key_.data());
  if (session == nullptr || cipher == nullptr ||
      SSL_SESSION_set1_master_key(session, key, key_.size()) != 1 ||
      SSL_SESSION_set_cipher(session, cipher) != 1 ||
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
    SSL_SESSION_free(session);
    return nullptr;
  }
  return session;
}

// --- setting up ---

Status TlsStream::set_up(bool dialled) {
  context_.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* const context = context_.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
      SSL_CTX_set1_groups_list(context, "X25519:P-256") != 1 ||
      SSL_CTX_set_num_tickets(context, 0) != 1) {
    return fail(ErrorCode::kInternal, "OpenSSL refused the settings of a link");
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // A server that answers with a certificate instead of the key has nobody to vouch for it, and
  // fails.
  SSL_CTX_set_verify(context, dialled ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_psk_use_session_callback(context, use_session);
  SSL_CTX_set_psk_find_session_callback(context, find_session);
  ssl_.reset(SSL_new(context));
  BIO* const bio = BIO_new(bio_method());
  if (!ssl_ || bio == nullptr) {
    BIO_free(bio);
    return fail(ErrorCode::kInternal, "OpenSSL could not make a connection");
  }
  BIO_set_data(bio, this);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  dialled ? SSL_set_connect_state(ssl_.get()) : SSL_set_accept_state(ssl_.get());
  return {};
}

std::unexpected<Error> TlsStream::handshake_failure() {
  if (socket_error_) return std::unexpected(*socket_error_);
  const unsigned long number = ERR_peek_last_error();
  const char* const known = ERR_reason_error_string(number);
  const std::string text = known != nullptr ? known : "for no stated reason";
  ERR_clear_error();
  switch (ERR_GET_REASON(number)) {
    case SSL_R_BINDER_DOES_NOT_VERIFY:         // the accepting side, when the keys differ,
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:  // and what OpenSSL 3.0 answers the dialling side
                                               // then
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:      // (others answer so)
    case SSL_R_NO_SHARED_CIPHER:               // a client that offers no key
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_CERTIFICATE_VERIFY_FAILED:  // a server that offers a certificate instead
      return fail(ErrorCode::kPermission,
                  "{} did not prove the key of this link ({}): it belongs to another instance, or "
                  "is a stranger",
                  peer(), text);
    default:
      return fail(
          ErrorCode::kCorrupt,
          "the TLS 1.3 handshake with {} failed ({}): it may be set to plain, or be another "
          "version",
          peer(), text);
  }
}

Status TlsStream::shake_hands(bool dialled, Deadline deadline) {
  SHOAL_TRY(set_up(dialled));
  while (true) {
    ERR_clear_error();
    const int status = SSL_do_handshake(ssl_.get());
    const int reason = SSL_get_error(ssl_.get(), status);
    auto error = status == 1 || reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE
                     ? std::optional<Error>()
                     : handshake_failure().error();
    // Flushed even after a failure: the alert tells the peer why.
    const auto pushed = flush();
    if (error) return std::unexpected(*error);
    if (!pushed) return std::unexpected(pushed.error());
    if (status == 1 && *pushed) break;
    pollfd ready{descriptor(), static_cast<short>(*pushed ? POLLIN : POLLIN | POLLOUT), 0};
    SHOAL_ASSIGN(const bool in_time, wait_for({&ready, 1}, deadline));
    if (!in_time) {
      return fail(ErrorCode::kDeadline,
                  "{} did not finish the TLS handshake in time; is its process stopped?", peer());
    }
  }
  if (SSL_session_reused(ssl_.get()) != 1) {
    return fail(ErrorCode::kPermission, "{} did not use the key of this link", peer());
  }
  return {};
}

// --- moving bytes ---

Result<bool> TlsStream::flush() {
  while (!flushed()) {
    SHOAL_ASSIGN(const size_t sent, send_now(outgoing_.filled(), {}));
    if (sent == 0) return false;
    outgoing_.take(sent);
  }
  return true;
}

Result<bool> TlsStream::fill() {
  SHOAL_ASSIGN(const size_t got, receive_now(incoming_.room(), {}));
  incoming_.end += got;
  return got > 0;
}

std::unexpected<Error> TlsStream::failure() {
  if (socket_error_) return std::unexpected(*socket_error_);
  const unsigned long number = ERR_peek_last_error();
  const char* const text = ERR_reason_error_string(number);
  const bool damaged = ERR_GET_REASON(number) == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC;
  auto error = fail(ErrorCode::kCorrupt, "{} {}: {}",
                    damaged ? "what came over the encrypted link is not what was sent by"
                            : "the encrypted link broke to",
                    peer(), text != nullptr ? text : "unknown TLS error");
  ERR_clear_error();
  return error;
}

// False: no room for another record until the socket takes some.
Result<bool> TlsStream::write_record(std::span<const std::byte> plain) {
  if (records_sent_ >= records_per_key_) {
    if (SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) != 1) return failure();
    records_sent_ = 0;
  }
  size_t written = 0;
  ERR_clear_error();
  if (SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &written) != 1) return failure();
  ++records_sent_;
  return true;
}

Result<size_t> TlsStream::write(std::span<const std::byte> head, std::span<const std::byte> body) {
  size_t taken = 0;
  // Twice the room, because a record may be preceded by a key update.
  while (!head.empty() || !body.empty()) {
    if (outgoing_.room().size() < kRecordRoom + 256) {
      SHOAL_ASSIGN(const bool pushed, flush());
      if (!pushed) return taken;
    }
    std::span<const std::byte> plain;
    if (head.empty()) {
      plain = body.first(std::min(body.size(), kRecordBytes));
      body = body.subspan(plain.size());
    } else {
      // Header and payload in one record, so that a small frame is one segment and one decryption.
      const size_t from_head = std::min(head.size(), kRecordBytes);
      const size_t from_body = std::min(body.size(), kRecordBytes - from_head);
      std::ranges::copy(head.first(from_head), staging_.begin());
      std::ranges::copy(body.first(from_body), staging_.begin() + static_cast<long>(from_head));
      plain = std::span(staging_).first(from_head + from_body);
      head = head.subspan(from_head);
      body = body.subspan(from_body);
    }
    SHOAL_TRY(write_record(plain));
    taken += plain.size();
  }
  SHOAL_TRY(flush());
  return taken;
}

Result<size_t> TlsStream::read_some(std::span<std::byte> to) {
  size_t total = 0;
  while (total < to.size()) {
    // Asking OpenSSL costs more than asking the socket: while there is nothing new, spinning stays
    // cheap.
    if (SSL_pending(ssl_.get()) == 0 && incoming_.filled().empty()) {
      SHOAL_ASSIGN(const bool filled, fill());
      if (!filled) return total;
    }
    size_t got = 0;
    ERR_clear_error();
    if (SSL_read_ex(ssl_.get(), to.data() + total, to.size() - total, &got) == 1) {
      total += got;
      continue;
    }
    const int reason = SSL_get_error(ssl_.get(), 0);
    if (reason == SSL_ERROR_ZERO_RETURN) return closed_by_peer();
    if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE) return failure();
    if (incoming_.filled().empty()) return total;
    if (reason == SSL_ERROR_WANT_WRITE) {
      SHOAL_ASSIGN(const bool pushed, flush());
      if (!pushed) return total;
    }
  }
  return total;
}

Result<size_t> TlsStream::read(std::span<std::byte> head, std::span<std::byte> body) {
  SHOAL_ASSIGN(const size_t first, read_some(head));
  if (first < head.size()) return first;
  SHOAL_ASSIGN(const size_t second, read_some(body));
  return first + second;
}

}  // namespace

Result<std::unique_ptr<ByteStream>> make_tls_stream(UniqueFd socket, bool dialled,
                                                    std::span<const std::byte> key,
                                                    std::string peer, Deadline deadline,
                                                    uint64_t records_per_key) {
  if (key.size() != kKeyBytes) {
    return fail(ErrorCode::kInvalidArgument, "the key of the link to {} has {} bytes, not {}", peer,
                key.size(), kKeyBytes);
  }
  auto stream =
      std::make_unique<TlsStream>(std::move(socket), key, std::move(peer), records_per_key);
  SHOAL_TRY(stream->shake_hands(dialled, deadline));
  SHOAL_TRY(greet(*stream, kMagic, deadline));
  return stream;
}

}  // namespace shoal
