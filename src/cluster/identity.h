// Who this node is: an Ed25519 key and its self-signed certificate, made at the first start and
// kept in HOME/identity.pem (mode 0600). The node id is the SHA-256 of the certificate's public
// key. Setup path; any thread.
#pragma once

#include <string>

#include "base/result.h"
#include "http/http.h"

namespace shoal::cluster {

struct Identity {
  std::string id;  // 64 hexadecimal digits
  http::TlsIdentity tls;
};

// Makes one when there is none. A damaged file, or one that others may read, is an error that says
// what to do: an identity is never replaced silently, because the other nodes know this one by it.
Result<Identity> load_or_make_identity(const std::string& home);

}  // namespace shoal::cluster
