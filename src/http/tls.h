// TLS 1.3 contexts for mutual authentication by key fingerprints. Private to this module (and its
// tests).
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "http/http.h"

namespace shoal::http {

// What a verify callback of OpenSSL reads; must outlive the connections of its context, which keeps
// it alive.
struct TlsContext {
  boost::asio::ssl::context context{boost::asio::ssl::context::tls};
  PeerCheck check;
};

// kInvalidArgument when certificate and key are not a pair in PEM. Both sides always present a
// certificate; names, dates and issuers are ignored, possession of the key is what TLS itself
// proves. No session is ever resumed: resumption would skip the check.
Result<std::shared_ptr<TlsContext>> make_tls_context(const TlsIdentity& identity, bool server,
                                                     PeerCheck check);

std::string fingerprint_of(X509* certificate);

}  // namespace shoal::http
