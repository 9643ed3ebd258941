#include "gguf/gguf.h"

#include <algorithm>
#include <array>

#include "gguf/parser.h"

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

Result<File> File::open(const std::string& path) {
  SHOAL_ASSIGN(MappedFile mapped, MappedFile::open(path));
  File file;
  file.path_ = path;
  file.file_ = std::move(mapped);
  SHOAL_TRY(Parser(file, file.file_.bytes()).parse());
  return file;
}

Result<File> File::parse(std::span<const std::byte> bytes, std::string name) {
  File file;
  file.path_ = std::move(name);
  if (bytes.empty()) return fail(ErrorCode::kCorrupt, "{} is empty; download it again", file.path_);
  SHOAL_TRY(Parser(file, bytes).parse());
  return file;
}

const std::string& File::path() const {
  return path_;
}
uint32_t File::version() const {
  return version_;
}
uint64_t File::size_bytes() const {
  return bytes_.size();
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
  return bytes_.subspan(tensor.offset, tensor.size_bytes);
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
  if (!file_.bytes().empty()) file_.release(tensor_bytes(tensor));
}

}  // namespace shoal::gguf
