// Typed reading of metadata: any width of number that holds the value will do.
#include <concepts>
#include <cstring>
#include <limits>
#include <optional>

#include "base/bytes.h"
#include "gguf/gguf.h"

namespace shoal::gguf {
namespace {

template <typename T>
T load(std::span<const std::byte> bytes, uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Calls use(value) with element `index` of an array of numbers. False for other element types.
template <typename Use>
bool with_number(const Array& array, uint64_t index, Use use) {
  switch (static_cast<ValueType>(array.element_type)) {
    case ValueType::kUint8:
      return use(load<uint8_t>(array.bytes, index));
    case ValueType::kInt8:
      return use(load<int8_t>(array.bytes, index));
    case ValueType::kUint16:
      return use(load<uint16_t>(array.bytes, index));
    case ValueType::kInt16:
      return use(load<int16_t>(array.bytes, index));
    case ValueType::kUint32:
      return use(load<uint32_t>(array.bytes, index));
    case ValueType::kInt32:
      return use(load<int32_t>(array.bytes, index));
    case ValueType::kFloat32:
      return use(load<float>(array.bytes, index));
    case ValueType::kUint64:
      return use(load<uint64_t>(array.bytes, index));
    case ValueType::kInt64:
      return use(load<int64_t>(array.bytes, index));
    case ValueType::kFloat64:
      return use(load<double>(array.bytes, index));
    default:
      return false;
  }
}

template <typename T>
std::optional<int64_t> as_integer(const T& value) {
  if constexpr (std::integral<T> && !std::same_as<T, bool>) {
    if (std::in_range<int64_t>(value)) return static_cast<int64_t>(value);
  }
  return std::nullopt;
}

template <typename T>
std::optional<double> as_number(const T& value) {
  if constexpr ((std::integral<T> || std::floating_point<T>) && !std::same_as<T, bool>)
    return static_cast<double>(value);
  return std::nullopt;
}

std::string kind_of(const Value& value) {
  if (const auto* array = std::get_if<Array>(&value)) {
    return fmt::format("an array of {} {}", array->count, value_type_name(array->element_type));
  }
  if (const auto* number = std::get_if<uint64_t>(&value)) return fmt::format("{}", *number);
  return std::string(value_type_name(static_cast<uint32_t>(value.index())));
}

// All elements of an array of numbers by `convert`, or nullopt when one does not convert.
template <typename T, typename Convert>
std::optional<std::vector<T>> elements(const Array& array, Convert convert) {
  std::vector<T> out;
  for (uint64_t i = 0; i < array.count; ++i) {
    const bool fits = with_number(array, i, [&](auto element) {
      const std::optional<T> converted = convert(element);
      if (converted) out.push_back(*converted);
      return converted.has_value();
    });
    if (!fits) return std::nullopt;
  }
  return out;
}

}  // namespace

Result<const Value*> File::get(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr)
    return fail(ErrorCode::kNotFound, "{}: the metadata key {} is missing", path_, printable(key));
  return value;
}

std::unexpected<Error> File::wrong_kind(std::string_view key, std::string_view wanted) const {
  const Value* value = find(key);
  return fail(ErrorCode::kCorrupt, "{}: the metadata key {} must be {}, not {}", path_,
              printable(key), wanted, value != nullptr ? kind_of(*value) : "absent");
}

Result<int64_t> File::integer(std::string_view key) const {
  SHOAL_ASSIGN(const Value* value, get(key));
  const auto number = std::visit([](const auto& held) { return as_integer(held); }, *value);
  if (!number) return wrong_kind(key, "an integer below 2^63");
  return *number;
}

Result<double> File::number(std::string_view key) const {
  SHOAL_ASSIGN(const Value* value, get(key));
  const auto number = std::visit([](const auto& held) { return as_number(held); }, *value);
  if (!number) return wrong_kind(key, "a number");
  return *number;
}

Result<bool> File::boolean(std::string_view key) const {
  SHOAL_ASSIGN(const Value* value, get(key));
  if (const bool* held = std::get_if<bool>(value)) return *held;
  return wrong_kind(key, "true or false");
}

Result<std::string_view> File::string(std::string_view key) const {
  SHOAL_ASSIGN(const Value* value, get(key));
  if (const auto* held = std::get_if<std::string_view>(value)) return *held;
  return wrong_kind(key, "a text");
}

Result<std::vector<std::string_view>> File::strings(std::string_view key) const {
  SHOAL_ASSIGN(const Value* value, get(key));
  const Array* array = std::get_if<Array>(value);
  if (array == nullptr || static_cast<ValueType>(array->element_type) != ValueType::kString) {
    return wrong_kind(key, "an array of texts");
  }
  std::vector<std::string_view> out;
  out.reserve(array->count);
  std::span<const std::byte> rest = array->bytes;  // lengths were checked by the parser
  for (uint64_t i = 0; i < array->count; ++i) {
    const auto length = load<uint64_t>(rest, 0);
    out.push_back(as_text(rest.subspan(8, length)));
    rest = rest.subspan(8 + length);
  }
  return out;
}

Result<std::vector<int64_t>> File::integers(std::string_view key) const {
  SHOAL_ASSIGN(const Value* value, get(key));
  if (const Array* array = std::get_if<Array>(value)) {
    auto out = elements<int64_t>(*array, [](auto element) { return as_integer(element); });
    if (out) return *std::move(out);
    return wrong_kind(key, "integers below 2^63");
  }
  SHOAL_ASSIGN(const int64_t one, integer(key));
  return std::vector<int64_t>{one};
}

Result<std::vector<double>> File::numbers(std::string_view key) const {
  SHOAL_ASSIGN(const Value* value, get(key));
  if (const Array* array = std::get_if<Array>(value)) {
    auto out = elements<double>(*array, [](auto element) { return as_number(element); });
    if (out) return *std::move(out);
    return wrong_kind(key, "numbers");
  }
  SHOAL_ASSIGN(const double one, number(key));
  return std::vector<double>{one};
}

}  // namespace shoal::gguf
