// Chat templates for files that bring none, by the special tokens of their vocabulary. Pure; any
// thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace shoal {

struct DefaultTemplate {
  std::string_view name;  // "ChatML", for logs and sentences
  std::string source;
};

// nullopt when no known family's tokens are there: then a guess would be worse than a refusal.
std::optional<DefaultTemplate> find_default_template(std::span<const std::string_view> tokens);

}  // namespace shoal
