// What the ranks of an instance compare before they load and before the first step, so that a rank
// with another file, other options or a cut that does not fit the others' is found by name and not
// by wrong answers. Called by the engine's thread.
#pragma once

#include <string>
#include <vector>

#include "engine/engine.h"

namespace shoal {

// A digest of the file's metadata and shape and of the beginning of every tensor: finds another
// model, another quantisation or another fine-tune, not a single flipped bit (that is what the
// SHA-256 of a pull is for).
Result<std::string> fingerprint(const gguf::File& file);

// What a rank tells the others when they meet, as JSON.
std::string agreement_text(const std::string& file_digest, const RankCut& cut,
                           const EngineOptions& options, int page_tokens);

// Exchanges and compares; returns the cuts of all ranks, which it does not judge. kConflict names
// rank and subject.
Result<std::vector<RankCut>> agree(Group& group, const gguf::File& file, const RankCut& cut,
                                   const EngineOptions& options, int page_tokens);

// Every rank passes how its loading went; all return together. Another rank's failure comes back as
// kUnreachable with its sentence.
Status agree_loaded(Group& group, const Status& mine, Deadline deadline);

}  // namespace shoal
