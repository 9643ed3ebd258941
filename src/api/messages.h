// The messages of a chat, checked and brought to one form for the template. Private to this module;
// pure.
#pragma once

#include "api/error.h"

namespace shoal::api {

// `developer` becomes `system`; lists of text parts become one text; fields that no template reads
// are dropped.
Outcome<OrderedJson> normal_messages(const OrderedJson& messages);

}  // namespace shoal::api
