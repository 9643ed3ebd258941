#include "cli/sampler_text.h"

namespace shoal::cli {
namespace {

constexpr size_t kColumns = 80;
constexpr size_t kLongestTokenColumns = 24;

// Columns of one UTF-8 character by its first byte; beyond the European scripts two, which is too
// many for some and too few for none that a terminal shows.
size_t columns_of(unsigned char first) {
  if ((first & 0xC0) == 0x80) return 0;
  return first >= 0xE1 ? 2 : 1;
}

// Whatever an answer holds; what is not there is empty.
std::string text(const Json& object, const char* name) {
  return json_field<std::string>(object, name).value_or("");
}
double number(const Json& object, const char* name) {
  return json_field<double>(object, name).value_or(0);
}
Json best_of(const Json& stage) {
  Json best = json_field<Json>(stage, "best").value_or(Json::array());
  return best.is_array() ? best : Json::array();
}

size_t width(std::string_view text) {
  size_t columns = 0;
  for (const char byte : text) columns += columns_of(static_cast<unsigned char>(byte));
  return columns;
}

// The token in quotes, with control characters spelled out and a long one cut.
std::string quoted(const std::string& token) {
  std::string text = dump_json(Json(token));
  if (width(text) <= kLongestTokenColumns) return text;
  size_t columns = 0;
  size_t end = 0;
  while (end < text.size()) {
    columns += columns_of(static_cast<unsigned char>(text[end]));
    if (columns > kLongestTokenColumns - 4) break;
    ++end;
  }
  return text.substr(0, end) + "...\"";
}

std::string percent(double probability) {
  return probability > 0 && probability < 0.0005 ? "<0.1"
                                                 : fmt::format("{:.1f}", probability * 100);
}

std::string candidate_text(const Json& candidate, std::string_view stage) {
  const double before = number(candidate, "before");
  const double after = number(candidate, "after");
  const std::string token = quoted(text(candidate, "token"));
  if (stage == "model" ||
      stage == "draw")  // nothing before the one, nothing to say after the other
    return fmt::format("{} {}%", token, percent(before));
  if (after == 0) return fmt::format("{} {}>out", token, percent(before));
  return fmt::format("{} {}>{}%", token, percent(before), percent(after));
}

std::string stage_line(const Json& stage) {
  const std::string name = text(stage, "name");
  std::string line =
      fmt::format("  {:<11} {:>7}", name, static_cast<int64_t>(number(stage, "kept")));
  for (const Json& candidate : best_of(stage)) {
    const std::string one = candidate_text(candidate, name);
    if (width(line) + 2 + width(one) > kColumns) break;
    line += "  " + one;
  }
  return line + '\n';
}

}  // namespace

std::string sampler_lines(int64_t number, const Json& stages) {
  std::string lines = fmt::format("token {}", number);
  if (!stages.is_array() || stages.empty()) return lines + '\n';
  const Json drawn = best_of(stages.back());
  if (!drawn.empty()) lines += fmt::format(" {}", quoted(text(drawn[0], "token")));
  lines += '\n';
  for (const Json& stage : stages) lines += stage_line(stage);
  return lines;
}

}  // namespace shoal::cli
