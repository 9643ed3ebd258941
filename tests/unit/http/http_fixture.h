// What the tests of HTTP share: a loop on a thread of its own, plain sockets, throw-away
// identities.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>
#include <cstring>
#include <future>
#include <thread>

#include "http/http.h"

namespace shoal::http {

class LoopThread {
 public:
  LoopThread() : thread_([this] { loop.run(); }) {}
  ~LoopThread() { stop(); }
  void stop() {
    guard_.reset();
    loop.stop();
    if (thread_.joinable()) thread_.join();
  }
  // Runs something on the loop's thread and waits for it.
  template <typename F>
  auto call(F work) {
    std::packaged_task<decltype(work())()> task(std::move(work));
    auto done = task.get_future();
    asio::post(loop, [&task] { task(); });
    return done.get();
  }
  template <typename T>
  T await(asio::awaitable<T> work) {
    return asio::co_spawn(loop, std::move(work), asio::use_future).get();
  }

  asio::io_context loop;

 private:
  asio::executor_work_guard<asio::io_context::executor_type> guard_ = asio::make_work_guard(loop);
  std::thread thread_;
};

// A blocking TCP or Unix client that sends and sees raw bytes.
class RawClient {
 public:
  RawClient() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  explicit RawClient(uint16_t port) : RawClient() { connect(port); }
  void connect(uint16_t port) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  }
  explicit RawClient(const std::string& path)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::strncpy(at.sun_path, path.c_str(), sizeof(at.sun_path) - 1);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  // What arrives until `mark` has been seen, the server closes, or the patience ends.
  std::string read_until(std::string_view mark, int patience_ms = 5000) {
    while (mark.empty() || seen_.find(mark) == std::string::npos) {
      pollfd wait{fd_.get(), POLLIN, 0};
      if (::poll(&wait, 1, patience_ms) <= 0) {
        timed_out_ = true;
        break;
      }
      char buffer[4096];
      const ssize_t count = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
      if (count <= 0) {
        closed_ = true;
        break;
      }
      seen_.append(buffer, static_cast<size_t>(count));
    }
    const size_t found = mark.empty() ? std::string::npos : seen_.find(mark);
    const size_t end = found == std::string::npos ? seen_.size() : found + mark.size();
    const std::string result = seen_.substr(0, end);
    seen_.erase(0, end);
    return result;
  }
  std::string read_all() { return read_until(""); }
  bool closed_by_server() const { return closed_; }
  void finish_sending() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  std::string seen_;
  bool closed_ = false;
  bool timed_out_ = false;
};

// An Ed25519 key with a certificate signed by itself; long expired when asked for, since dates mean
// nothing here.
inline TlsIdentity make_identity(bool expired = false) {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  X509* certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), expired ? -2000000 : -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), expired ? -1000000 : 86400);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("node"), -1, -1, 0);
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
  X509_set_pubkey(certificate, key);
  X509_sign(certificate, key, nullptr);
  const auto pem = [](auto write) {
    BIO* bio = BIO_new(BIO_s_mem());
    write(bio);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string text(data, static_cast<size_t>(size));
    BIO_free(bio);
    return text;
  };
  TlsIdentity identity;
  identity.certificate_pem = pem([&](BIO* bio) { PEM_write_bio_X509(bio, certificate); });
  identity.private_key_pem = pem(
      [&](BIO* bio) { PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
  X509_free(certificate);
  EVP_PKEY_free(key);
  return identity;
}

inline Deadline soon() {
  return Clock::now() + std::chrono::seconds(10);
}

}  // namespace shoal::http
