// Links that pretend: any link slowed to the latency, bandwidth and jitter of another, and a link
// whose peer is imagined. Like every Link, for the one thread that computes.
#pragma once

#include <memory>

#include "transport/link.h"
#include "transport/link_model.h"

namespace shoal {

// Frames arrive over `inner` but are held until they would have over `model`: the time at which
// the other end began to send them travels along, so both ends are emulated, on one machine.
// Sending is as fast as over `inner`. Ends that share a seed have the same jitter.
std::unique_ptr<Link> make_emulated_link(std::unique_ptr<Link> inner, LinkModel model,
                                         uint64_t seed = 1);

// For a rank that runs alone. What is sent is swallowed. A frame of known length is zeros, which
// the imagined peer sends at the moment at which this side begins to receive; any other is the
// next that feed() was given, sent when both it and the receiver were there.
class PhantomLink : public Link {
 public:
  virtual void feed(Bytes frame) = 0;
};
std::unique_ptr<PhantomLink> make_phantom_link(LinkModel model, std::string peer,
                                               uint64_t seed = 1);

}  // namespace shoal
