// Frames over a connected pair of queue pairs: what make_verbs_link() ends with. Private to this
// module.
#pragma once

#include <memory>

#include "base/file.h"
#include "transport/verbs_endpoint.h"
#include "transport/verbs_link.h"

namespace shoal {

// `watch` becomes readable when the card signals or the control link has something to say.
Result<std::unique_ptr<Link>> link_over(std::unique_ptr<VerbsEndpoint> endpoint,
                                        std::unique_ptr<Link> control, UniqueFd watch,
                                        const VerbsHello& peer);

}  // namespace shoal
