// Frames over any stream of bytes. Private to this module.
#pragma once

#include <memory>

#include "transport/byte_stream.h"
#include "transport/link.h"

namespace shoal {

std::unique_ptr<Link> make_framed_link(std::unique_ptr<ByteStream> stream);

}  // namespace shoal
