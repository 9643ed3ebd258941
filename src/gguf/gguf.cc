#include "gguf/gguf.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "gguf/parser.h"
#include "gguf/split.h"

namespace shoal::gguf {

std::string_view value_type_name(uint32_t type) {
  static constexpr std::array<std::string_view, 13> kNames = {
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  return type < kNames.size() ? kNames[type] : "unknown";
}

std::string printable(std::string_view text) {
  static constexpr size_t kLongest = 80;
  std::string out = "\"";
  for (const char letter : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte < 0x20 || byte > 0x7e) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      if (letter == '"' || letter == '\\') out += '\\';
      out += letter;
    }
  }
  return out + (text.size() > kLongest ? "...\"" : "\"");
}

Result<File> File::open_one(const std::string& path) {
  SHOAL_ASSIGN(MappedFile mapped, MappedFile::open(path));
  const auto bytes = mapped.bytes();  // stay where they are when the mapping moves
  SHOAL_ASSIGN(File file, parse_one(bytes, path));
  file.parts_.front().mapped = std::move(mapped);
  return file;
}

Result<File> File::parse_one(std::span<const std::byte> bytes, std::string name) {
  File file;
  file.path_ = std::move(name);
  if (bytes.empty()) return fail(ErrorCode::kCorrupt, "{} is empty; download it again", file.path_);
  file.parts_.emplace_back().bytes = bytes;
  SHOAL_TRY(Parser(file, bytes, bytes.size()).parse());
  return file;
}

Result<File> File::open(const std::string& path) {
  SHOAL_ASSIGN(File file, open_one(path));
  SHOAL_ASSIGN(const auto split, split_facts(file));
  if (!split) return file;
  SHOAL_ASSIGN(const std::vector<std::string> paths, parts_beside(path, *split));
  std::vector<File> parts;
  for (const std::string& part : paths) {
    if (part == path) {
      parts.push_back(std::move(file));
      continue;
    }
    auto opened = open_one(part);
    if (!opened && opened.error().code == ErrorCode::kNotFound) {
      return fail(ErrorCode::kNotFound,
                  "{} is missing: the model is split into {} parts, and this is part {}; put it "
                  "beside the others",
                  part, paths.size(), parts.size() + 1);
    }
    if (!opened) return std::unexpected(opened.error());
    parts.push_back(std::move(*opened));
  }
  return join(std::move(parts));
}

Result<File> File::parse(std::span<const std::byte> bytes, std::string name) {
  return parse_parts({{bytes, std::move(name)}});
}

Result<File> File::parse_parts(const std::vector<NamedBytes>& named) {
  SHOAL_CHECK(!named.empty());
  std::vector<File> parts;
  for (const NamedBytes& part : named) {
    SHOAL_ASSIGN(File file, parse_one(part.bytes, part.name));
    parts.push_back(std::move(file));
  }
  SHOAL_ASSIGN(const auto split, split_facts(parts.front()));
  if (!split && parts.size() == 1) return std::move(parts.front());
  return join(std::move(parts));
}

// One File of the parts: the first with the tensors of all.
Result<File> File::join(std::vector<File> parts) {
  SHOAL_TRY(check_parts(parts));
  File whole = std::move(parts.front());
  for (size_t index = 1; index < parts.size(); ++index) {
    for (TensorInfo& tensor : parts[index].tensors_) {
      tensor.part = static_cast<uint32_t>(index);
      whole.tensors_.push_back(std::move(tensor));
    }
    whole.parts_.push_back(std::move(parts[index].parts_.front()));
  }
  whole.tensor_order_.resize(whole.tensors_.size());
  std::iota(whole.tensor_order_.begin(), whole.tensor_order_.end(), 0u);
  std::ranges::sort(whole.tensor_order_, {},
                    [&](uint32_t index) { return whole.tensors_[index].name; });
  return whole;
}

Result<uint64_t> File::header_bytes(std::span<const std::byte> beginning, uint64_t file_bytes,
                                    std::string name) {
  File file;
  file.path_ = std::move(name);
  Parser parser(file, beginning, std::max<uint64_t>(file_bytes, beginning.size()));
  const Status parsed = parser.parse();
  if (!parsed && parser.wanted_bytes() == 0) return std::unexpected(parsed.error());
  return parsed ? parser.header_end() : parser.wanted_bytes();
}

const std::string& File::path() const {
  return path_;
}
uint32_t File::version() const {
  return version_;
}
uint64_t File::size_bytes() const {
  uint64_t all = 0;
  for (const Part& part : parts_) all += part.bytes.size();
  return all;
}
size_t File::part_count() const {
  return parts_.size();
}
uint64_t File::alignment() const {
  return alignment_;
}
std::span<const File::Entry> File::metadata() const {
  return metadata_;
}
std::span<const TensorInfo> File::tensors() const {
  return tensors_;
}

const Value* File::find(std::string_view key) const {
  const auto found = std::ranges::lower_bound(entry_order_, key, {},
                                              [&](uint32_t index) { return metadata_[index].key; });
  return found != entry_order_.end() && metadata_[*found].key == key ? &metadata_[*found].value
                                                                     : nullptr;
}

const TensorInfo* File::find_tensor(std::string_view name) const {
  const auto found = std::ranges::lower_bound(tensor_order_, name, {},
                                              [&](uint32_t index) { return tensors_[index].name; });
  return found != tensor_order_.end() && tensors_[*found].name == name ? &tensors_[*found]
                                                                       : nullptr;
}

std::span<const std::byte> File::tensor_bytes(const TensorInfo& tensor) const {
  return parts_[tensor.part].bytes.subspan(tensor.offset, tensor.size_bytes);
}

Result<TensorSource> File::tensor(std::string_view name) const {
  const TensorInfo* info = find_tensor(name);
  if (info == nullptr)
    return fail(ErrorCode::kNotFound, "{} has no tensor {}", path_, printable(name));
  const ElementTraits* type = element_traits(info->type);
  if (type == nullptr || !type->supported) {
    return fail(ErrorCode::kUnsupported, "{}: the tensor {} {}", path_, printable(name),
                unsupported_element_type(info->type));
  }
  int64_t rows = 1;
  for (size_t i = 1; i < info->dimensions.size(); ++i)
    rows *= info->dimensions[i];  // checked by the parser
  return TensorSource{info->name, static_cast<ElementType>(info->type), rows, info->dimensions[0],
                      tensor_bytes(*info)};
}

void File::release(const TensorInfo& tensor) const {
  release(tensor, tensor_bytes(tensor));
}
void File::release(const TensorInfo& tensor, std::span<const std::byte> part) const {
  const MappedFile& mapped = parts_[tensor.part].mapped;
  if (!mapped.bytes().empty()) mapped.release(part);
}
void File::release_all() const {
  for (const Part& part : parts_) {
    if (!part.mapped.bytes().empty()) part.mapped.release(part.mapped.bytes());
  }
}

}  // namespace shoal::gguf
