// Carries one question to the backend and its events back to the client. Private to this module; on
// the loop's thread.
#pragma once

#include "api/api.h"
#include "api/request.h"

namespace shoal::api {

asio::awaitable<void> answer_question(ApiBackend& backend, http::Exchange& exchange,
                                      Question question);

}  // namespace shoal::api
