// Who may ask: Host, Origin, key and content type. Private to this module; pure.
#pragma once

#include "api/api.h"
#include "api/error.h"

namespace shoal::api {

// Refuses a page of another origin and a name that a stranger's DNS points here (DNS rebinding):
// 403.
Outcome<void> check_origin(const http::Request& request, const ApiOptions& options);
bool has_key(const http::Request& request, const ApiOptions& options);
Outcome<void> check_key(const http::Request& request, const ApiOptions& options);  // 401
Outcome<void> check_content_type(const http::Request& request);                    // 415
// The client is on this machine, so a path that it names means a file here.
bool is_local(const http::Request& request);

}  // namespace shoal::api
