#include "gguf/parser.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include "base/bytes.h"

namespace shoal::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read by memcpy");

constexpr uint64_t kLongestName = 65535;  // the format's limit for keys

// The fewest bytes that an entry or a tensor's description can take: what bounds their counts.
constexpr uint64_t kLeastEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Bytes of one element of a fixed size; 0 for strings, arrays and unknown types.
uint64_t fixed_bytes(uint32_t type) {
  static constexpr std::array<uint8_t, 13> kBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kBytes.size() ? kBytes[type] : 0;
}

// Indices of `items` in rising order of their names, equal names in file order.
template <typename T, typename Name>
std::vector<uint32_t> order_by_name(const std::vector<T>& items, Name name) {
  std::vector<uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, {}, [&](uint32_t index) { return name(items[index]); });
  return order;
}

}  // namespace

Status Parser::parse() {
  SHOAL_TRY(parse_header());
  SHOAL_TRY(parse_metadata());
  SHOAL_TRY(check_key_order());
  SHOAL_TRY(parse_alignment());
  SHOAL_TRY(parse_tensor_infos());
  SHOAL_TRY(check_tensor_order());
  return place_tensors();
}

std::unexpected<Error> Parser::cut_short(std::string_view what, uint64_t needed) const {
  return corrupt(
      position_, what,
      "the file ends here: {} bytes are needed and {} are left; it is cut short, download it again",
      needed, left());
}

Status Parser::have(uint64_t count, std::string_view what) {
  if (position_ + count <= bytes_.size()) return {};
  wanted_bytes_ = position_ + count;
  return corrupt(position_, what, "only the first {} bytes of the file are here", bytes_.size());
}

Result<std::string_view> Parser::read_string(std::string_view field) {
  const uint64_t start = position_;
  SHOAL_ASSIGN(const uint64_t length, read<uint64_t>(field));
  if (length > left()) {
    return corrupt(
        start, field,
        "a text of {} bytes runs past the end of the file, {} bytes on; it is cut short or damaged",
        length, left());
  }
  SHOAL_TRY(have(length, field));
  const auto text = as_text(bytes_.subspan(position_, length));
  position_ += length;
  return text;
}

// --- header ---

Status Parser::refuse_other_format() const {
  struct Known {
    std::string_view start;
    std::string_view name;
  };
  static constexpr std::array kKnown = {
      Known{"version https://git-lfs",
            "a Git LFS pointer; fetch the model itself with git lfs pull"},
      Known{"<", "a web page or XML, probably an error page saved by a download"},
      Known{"PK\x03\x04", "a zip archive; unpack it first"},
      Known{"\x1f\x8b", "a gzip archive; unpack it first"},
      Known{"lmgg", "a GGML file, the format before GGUF; convert the model again"},
      Known{"fmgg", "a GGMF file, a format before GGUF; convert the model again"},
      Known{"tjgg", "a GGJT file, a format before GGUF; convert the model again"},
      Known{"FUGG", "a GGUF file with its bytes swapped"},
  };
  const std::string_view text = as_text(bytes_.first(std::min<size_t>(bytes_.size(), 64)));
  for (const Known& known : kKnown) {
    if (text.starts_with(known.start)) {
      return fail(ErrorCode::kUnsupported, "{}: the magic at offset 0 is not GGUF; this is {}",
                  file_.path_, known.name);
    }
  }
  if (text.size() > 9 && text[8] == '{') {
    return fail(ErrorCode::kUnsupported,
                "{}: the magic at offset 0 is not GGUF; this looks like a safetensors file, "
                "convert it to GGUF",
                file_.path_);
  }
  return corrupt(0, "the magic", "{} instead of \"GGUF\"; this is not a model in the GGUF format",
                 printable(text.substr(0, 4)));
}

Status Parser::parse_header() {
  if (bytes_.size() < 4 && bytes_.size() < file_bytes_) return have(4, "the magic");
  if (bytes_.size() < 4) {
    return std::string_view("GGUF").starts_with(as_text(bytes_)) ? cut_short("the magic", 4)
                                                                 : refuse_other_format();
  }
  if (as_text(bytes_.first(4)) != "GGUF") return refuse_other_format();
  position_ = 4;
  SHOAL_ASSIGN(const uint32_t version, read<uint32_t>("the version"));
  if (version == 1) {
    return fail(ErrorCode::kUnsupported,
                "{}: the version at offset 4: GGUF version 1 is not supported, only 2 and 3; "
                "convert the model again",
                file_.path_);
  }
  if (version != 2 && version != 3) {
    // A small number read in the wrong byte order has its low half empty.
    if (const uint32_t swapped = __builtin_bswap32(version); swapped >= 1 && swapped <= 0xffff) {
      return fail(ErrorCode::kUnsupported,
                  "{}: the version at offset 4: the file is big-endian (GGUF version {}), made for "
                  "another kind of machine; "
                  "get the little-endian one",
                  file_.path_, swapped);
    }
    return fail(ErrorCode::kUnsupported,
                "{}: the version at offset 4: GGUF version {} is not supported, only 2 and 3",
                file_.path_, version);
  }
  file_.version_ = version;
  SHOAL_ASSIGN(tensor_count_, read<uint64_t>("the number of tensors"));
  SHOAL_ASSIGN(entry_count_, read<uint64_t>("the number of metadata entries"));
  if (tensor_count_ > left() / kLeastTensorBytes) {
    return corrupt(8, "the number of tensors",
                   "{} tensors cannot be described in the {} bytes that follow", tensor_count_,
                   left());
  }
  if (entry_count_ > left() / kLeastEntryBytes) {
    return corrupt(16, "the number of metadata entries",
                   "{} entries cannot lie in the {} bytes that follow", entry_count_, left());
  }
  return {};
}

// --- metadata ---

Status Parser::parse_metadata() {
  for (uint64_t index = 0; index < entry_count_; ++index) {
    const uint64_t start = position_;
    const auto field = [&] { return fmt::format("the key of metadata entry {}", index); };
    const auto key = read_string("the key of a metadata entry");
    if (!key) return std::unexpected(key.error());
    if (key->empty()) return corrupt(start, field(), "the key is empty");
    if (key->size() > kLongestName) {
      return corrupt(start, field(), "the key is {} bytes long; {} are allowed", key->size(),
                     kLongestName);
    }
    SHOAL_ASSIGN(const auto type, read<uint32_t>(fmt::format("the type of {}", printable(*key))));
    SHOAL_ASSIGN(const Value value, parse_value(*key, type));
    file_.metadata_.push_back({*key, value});
  }
  return {};
}

Result<Value> Parser::parse_value(std::string_view key, uint32_t type) {
  const auto named = [&](auto result) -> Result<Value> {
    if (result) return Value(*result);
    return std::unexpected(result.error());
  };
  const uint64_t start = position_;
  const std::string field = fmt::format("the value of {}", printable(key));
  switch (static_cast<ValueType>(type)) {
    case ValueType::kUint8:
      return named(read<uint8_t>(field));
    case ValueType::kInt8:
      return named(read<int8_t>(field));
    case ValueType::kUint16:
      return named(read<uint16_t>(field));
    case ValueType::kInt16:
      return named(read<int16_t>(field));
    case ValueType::kUint32:
      return named(read<uint32_t>(field));
    case ValueType::kInt32:
      return named(read<int32_t>(field));
    case ValueType::kFloat32:
      return named(read<float>(field));
    case ValueType::kUint64:
      return named(read<uint64_t>(field));
    case ValueType::kInt64:
      return named(read<int64_t>(field));
    case ValueType::kFloat64:
      return named(read<double>(field));
    case ValueType::kString:
      return named(read_string(field));
    case ValueType::kArray:
      return parse_array(key);
    case ValueType::kBool: {
      SHOAL_ASSIGN(const uint8_t byte, read<uint8_t>(field));
      if (byte > 1) return corrupt(start, field, "a truth value must be 0 or 1, not {}", byte);
      return Value(byte == 1);
    }
  }
  return corrupt(start - 4, fmt::format("the type of {}", printable(key)),
                 "{} is not a type of metadata value", type);
}

Result<Value> Parser::parse_array(std::string_view key) {
  const uint64_t start = position_;
  Array array;
  const std::string field = fmt::format("the array {}", printable(key));
  SHOAL_ASSIGN(array.element_type, read<uint32_t>(field));
  SHOAL_ASSIGN(array.count, read<uint64_t>(field));
  const auto type = static_cast<ValueType>(array.element_type);
  if (type == ValueType::kArray) {
    return fail(ErrorCode::kUnsupported, "{}: {} at offset {}: arrays of arrays are not supported",
                file_.path_, field, start);
  }
  const uint64_t each = type == ValueType::kString
                            ? 8
                            : fixed_bytes(array.element_type);  // a string's length, at least
  if (each == 0)
    return corrupt(start, field, "{} is not a type of array element", array.element_type);
  if (array.count > left() / each) {
    return corrupt(start, field,
                   "{} elements of type {} cannot lie in the {} bytes that follow; the file is cut "
                   "short or damaged",
                   array.count, value_type_name(array.element_type), left());
  }
  const uint64_t first = position_;
  if (type == ValueType::kString) {
    for (uint64_t index = 0; index < array.count; ++index) {
      SHOAL_TRY(read_string(field));
    }
  } else {
    SHOAL_TRY(have(array.count * each, field));
    position_ += array.count * each;
  }
  array.bytes = bytes_.subspan(first, position_ - first);
  if (type == ValueType::kBool) {
    for (uint64_t index = 0; index < array.count; ++index) {
      if (static_cast<uint8_t>(array.bytes[index]) > 1) {
        return corrupt(first + index, field, "element {}: a truth value must be 0 or 1", index);
      }
    }
  }
  return Value(array);
}

Status Parser::check_key_order() {
  const auto& entries = file_.metadata_;
  file_.entry_order_ = order_by_name(entries, [](const File::Entry& entry) { return entry.key; });
  for (size_t i = 1; i < entries.size(); ++i) {
    const File::Entry& entry = entries[file_.entry_order_[i]];
    if (entry.key != entries[file_.entry_order_[i - 1]].key) continue;
    const auto offset = static_cast<uint64_t>(as_bytes(entry.key).data() - bytes_.data()) - 8;
    return corrupt(offset, "the metadata", "the key {} occurs twice", printable(entry.key));
  }
  return {};
}

Status Parser::parse_alignment() {
  if (file_.find("general.alignment") == nullptr) return {};
  SHOAL_ASSIGN(const int64_t alignment, file_.integer("general.alignment"));
  if (alignment <= 0 || alignment > UINT32_MAX ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    return fail(ErrorCode::kCorrupt,
                "{}: the metadata key \"general.alignment\": {} is not a power of two below 2^32",
                file_.path_, alignment);
  }
  file_.alignment_ = static_cast<uint64_t>(alignment);
  return {};
}

// --- tensors ---

Status Parser::parse_tensor_infos() {
  for (uint64_t index = 0; index < tensor_count_; ++index) {
    SHOAL_ASSIGN(TensorInfo tensor, parse_tensor_info(index));
    file_.tensors_.push_back(std::move(tensor));
  }
  return {};
}

Result<TensorInfo> Parser::parse_tensor_info(uint64_t index) {
  const uint64_t start = position_;
  TensorInfo tensor;
  SHOAL_ASSIGN(tensor.name, read_string("the name of a tensor"));
  if (tensor.name.empty() || tensor.name.size() > kLongestName) {
    return corrupt(start, fmt::format("the name of tensor {}", index),
                   "a name of {} bytes; 1 to {} are allowed", tensor.name.size(), kLongestName);
  }
  SHOAL_TRY(parse_dimensions(tensor));
  const std::string field = fmt::format("the tensor {}", printable(tensor.name));
  SHOAL_ASSIGN(tensor.type, read<uint32_t>(field));
  const uint64_t offset_position = position_;
  SHOAL_ASSIGN(tensor.offset, read<uint64_t>(field));
  if (tensor.offset % file_.alignment_ != 0) {
    return corrupt(offset_position, field,
                   "its data begins at {}, which is not a multiple of the alignment {}",
                   tensor.offset, file_.alignment_);
  }
  tensor.size_bytes = 0;
  const ElementTraits* type = element_traits(tensor.type);
  if (type == nullptr) return tensor;
  const int64_t columns = tensor.dimensions[0];
  if (columns % type->block_elements != 0) {
    return corrupt(start, field,
                   "its rows of {} elements are not whole blocks of {} as the type {} wants",
                   columns, type->block_elements, type->name);
  }
  uint64_t bytes = static_cast<uint64_t>(columns) / type->block_elements;
  bool overflow = __builtin_mul_overflow(bytes, uint64_t{type->block_bytes}, &bytes);
  for (size_t i = 1; i < tensor.dimensions.size(); ++i) {
    overflow |= __builtin_mul_overflow(bytes, static_cast<uint64_t>(tensor.dimensions[i]), &bytes);
  }
  if (overflow || bytes > file_bytes_) {
    return corrupt(start, field, "its shape {} of type {} is bigger than the file ({} bytes)",
                   fmt::join(tensor.dimensions, " x "), type->name, file_bytes_);
  }
  tensor.size_bytes = bytes;
  return tensor;
}

Status Parser::parse_dimensions(TensorInfo& tensor) {
  const uint64_t start = position_;
  const std::string field = fmt::format("the shape of tensor {}", printable(tensor.name));
  SHOAL_ASSIGN(const uint32_t count, read<uint32_t>(field));
  if (count < 1 || count > 4)
    return corrupt(start, field, "{} dimensions; 1 to 4 are allowed", count);
  int64_t elements = 1;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t offset = position_;
    SHOAL_ASSIGN(const uint64_t dimension, read<uint64_t>(field));
    if (dimension == 0) return corrupt(offset, field, "dimension {} is zero", i);
    if (dimension > INT64_MAX ||
        __builtin_mul_overflow(elements, static_cast<int64_t>(dimension), &elements)) {
      return corrupt(offset, field, "dimension {} is {}: more elements than can be counted", i,
                     dimension);
    }
    tensor.dimensions.push_back(static_cast<int64_t>(dimension));
  }
  return {};
}

Status Parser::check_tensor_order() {
  const auto& tensors = file_.tensors_;
  file_.tensor_order_ =
      order_by_name(tensors, [](const TensorInfo& tensor) { return tensor.name; });
  for (size_t i = 1; i < tensors.size(); ++i) {
    const TensorInfo& tensor = tensors[file_.tensor_order_[i]];
    if (tensor.name != tensors[file_.tensor_order_[i - 1]].name) continue;
    const auto offset = static_cast<uint64_t>(as_bytes(tensor.name).data() - bytes_.data()) - 8;
    return corrupt(offset, "the list of tensors", "the name {} occurs twice",
                   printable(tensor.name));
  }
  return {};
}

// Turns offsets into those in the file, and checks that the data lies inside it, each byte in one
// tensor at most.
Status Parser::place_tensors() {
  auto& tensors = file_.tensors_;
  if (tensors.empty()) return check_tail(position_);
  const uint64_t alignment = file_.alignment_;
  const uint64_t data_start = (position_ + alignment - 1) / alignment * alignment;
  for (TensorInfo& tensor : tensors) {
    const std::string_view name = tensor.name;
    if (data_start > file_bytes_ || tensor.offset > file_bytes_ - data_start ||
        tensor.size_bytes > file_bytes_ - data_start - tensor.offset) {
      return corrupt(
          std::min<uint64_t>(data_start, UINT64_MAX - tensor.offset) + tensor.offset,
          fmt::format("the data of tensor {}", printable(name)),
          "{} bytes run past the end of the file ({} bytes); it is cut short, download it again",
          tensor.size_bytes, file_bytes_);
    }
    tensor.offset += data_start;
  }
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, {}, [&](uint32_t index) { return tensors[index].offset; });
  bool all_sizes_known = true;
  for (size_t i = 0; i < order.size(); ++i) {
    const TensorInfo& tensor = tensors[order[i]];
    if (element_traits(tensor.type) == nullptr) all_sizes_known = false;
    if (i + 1 == order.size()) break;
    const TensorInfo& next = tensors[order[i + 1]];
    if (tensor.offset + tensor.size_bytes > next.offset) {
      return corrupt(next.offset, fmt::format("the data of tensor {}", printable(next.name)),
                     "it overlaps that of {}, which has {} bytes from {}", printable(tensor.name),
                     tensor.size_bytes, tensor.offset);
    }
  }
  const TensorInfo& last = tensors[order.back()];
  return all_sizes_known ? check_tail(last.offset + last.size_bytes) : Status();
}

// A file that goes on after its last tensor was appended to, or mixed from two downloads.
Status Parser::check_tail(uint64_t data_end) const {
  const uint64_t padded = (data_end + file_.alignment_ - 1) / file_.alignment_ * file_.alignment_;
  if (file_bytes_ <= padded) return {};
  return corrupt(data_end, "the end of the data",
                 "the file goes on for {} bytes that belong to no tensor; download it again",
                 file_bytes_ - data_end);
}

}  // namespace shoal::gguf
