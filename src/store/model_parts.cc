#include "store/model_parts.h"

#include <algorithm>
#include <filesystem>

#include "base/bytes.h"
#include "base/json.h"
#include "gguf/part_name.h"
#include "store/store_database.h"

namespace shoal {

std::vector<std::string> files_of_model(const std::string& path) {
  std::vector<std::string> parts = gguf::part_paths(path);
  return parts.empty() ? std::vector<std::string>{path} : parts;
}

std::string first_file(const std::string& path) {
  return files_of_model(path).front();
}

std::string set_identity(const std::vector<std::string>& sums) {
  if (sums.size() == 1) return sums.front();
  std::string lines;
  for (const std::string& sum : sums) lines += sum + "\n";
  return sha256(lines);
}

Result<uint64_t> size_of_model(const std::string& path) {
  uint64_t size_bytes = 0;
  const std::vector<std::string> files = files_of_model(path);
  for (const std::string& file : files) {
    const auto facts = facts_of(file);
    if (!facts && files.size() > 1 && facts.error().code == ErrorCode::kNotFound) {
      return fail(ErrorCode::kNotFound,
                  "{} is missing: the model is split into {} parts; put it beside the others", file,
                  files.size());
    }
    if (!facts) return std::unexpected(facts.error());
    size_bytes += facts->size_bytes;
  }
  return size_bytes;
}

std::string part_list_text(const std::vector<ModelPart>& parts) {
  Json list = Json::array();
  for (const ModelPart& part : parts) {
    list.push_back({{"name", part.name}, {"sha256", part.sha256}, {"size_bytes", part.size_bytes}});
  }
  return dump_json(Json{{"version", 1}, {"parts", list}});
}

Result<std::vector<ModelPart>> parse_part_list(std::string_view text, const std::string& sha256) {
  const auto bad = [&](std::string_view why) {
    return fail(ErrorCode::kCorrupt, "the list of the model's parts is wrong: {}", why);
  };
  const auto json = parse_json(text);
  if (!json || !json->is_object() || !json->contains("parts") || !json->at("parts").is_array())
    return bad("it is no list");
  std::vector<ModelPart> parts;
  std::vector<std::string> sums;
  for (const Json& entry : json->at("parts")) {
    const auto name = json_field<std::string>(entry, "name");
    const auto sum = json_field<std::string>(entry, "sha256");
    const auto size_bytes = json_field<uint64_t>(entry, "size_bytes");
    if (!name || !sum || !size_bytes) return bad("a part lacks its name, checksum or size");
    if (sum->size() != 64 || sum->find_first_not_of("0123456789abcdef") != std::string::npos)
      return bad("a checksum is none");
    parts.push_back({*name, *sum, *size_bytes});
    sums.push_back(*sum);
  }
  if (parts.size() < 2 || parts.size() > 99999) return bad("the number of parts cannot be");
  if (set_identity(sums) != sha256) return bad("it is that of another model");
  return parts;
}

}  // namespace shoal
