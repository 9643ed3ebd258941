// A short-lived child of this same binary, for what a daemon must not do itself: reading a model's
// file.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/model.h"

namespace shoal::serve {

// Runs `shoal ARGUMENTS...` and returns its standard output. Blocking. A non-zero exit is the error
// that the child printed as JSON; a crash, a timeout or too much output an error of its own.
Result<std::string> run_child(const std::vector<std::string>& arguments,
                              std::chrono::seconds timeout);

Result<ModelCard> inspect_card(const std::string& path);

}  // namespace shoal::serve
