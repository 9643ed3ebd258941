// Reading an object whose every field is known: each must be there, of its type and range, and no
// other may be. Private to this module; pure. Errors name what was read and the field: "event: the
// field 'number' is missing".
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/json.h"

namespace shoal {

template <typename J>
class Fields {
 public:
  Fields(const J& object, std::string_view what) : object_(object), what_(what) {}

  Result<const J*> member(const char* name) {
    if (!object_.is_object()) {
      return fail(ErrorCode::kInvalidArgument, "{}: not an object", what_);
    }
    const auto found = object_.find(name);
    if (found == object_.end()) {
      return fail(ErrorCode::kInvalidArgument, "{}: the field '{}' is missing", what_, name);
    }
    ++taken_;
    return &*found;
  }

  // Booleans, integers, finite numbers and strings.
  template <typename T>
  Status take(const char* name, T& value) {
    SHOAL_ASSIGN(const J* found, member(name));
    return read(*found, name, value);
  }

  // The same with integers and numbers from `lowest`.
  template <typename T>
  Status take_from(const char* name, T lowest, T& value) {
    SHOAL_TRY(take(name, value));
    if (value >= lowest) return {};
    return fail(ErrorCode::kInvalidArgument, "{}: the field '{}' must be at least {}, not {}",
                what_, name, lowest, value);
  }

  template <typename T>
  Status take_list(const char* name, std::vector<T>& values) {
    SHOAL_ASSIGN(const J* found, member(name));
    if (!found->is_array()) return wrong_type(name);
    values.clear();
    values.reserve(found->size());
    for (const J& element : *found) {
      T value{};
      SHOAL_TRY(read(element, name, value));
      values.push_back(std::move(value));
    }
    return {};
  }

  // Last: a field that nobody took is an error.
  Status finish() const {
    if (object_.size() == taken_) return {};
    return fail(ErrorCode::kInvalidArgument,
                "{}: {} fields where {} are known; the other end is of another version", what_,
                object_.size(), taken_);
  }

  std::unexpected<Error> wrong_type(const char* name) const {
    return fail(ErrorCode::kInvalidArgument, "{}: the field '{}' has the wrong type", what_, name);
  }

 private:
  template <typename T>
  Status read(const J& from, const char* name, T& value) const {
    if constexpr (std::is_same_v<T, bool>) {
      if (!from.is_boolean()) return wrong_type(name);
      value = from.template get<bool>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!from.is_string()) return wrong_type(name);
      value = from.template get_ref<const std::string&>();
    } else if constexpr (std::is_floating_point_v<T>) {
      if (!from.is_number()) return wrong_type(name);
      value = from.template get<T>();
      if (!std::isfinite(value)) return wrong_type(name);
    } else {
      static_assert(std::is_signed_v<T> && std::is_integral_v<T>);
      if (!from.is_number_integer()) return wrong_type(name);
      const bool wraps =
          from.is_number_unsigned() && from.template get<uint64_t>() > uint64_t{INT64_MAX};
      const int64_t number = wraps ? 0 : from.template get<int64_t>();
      if (wraps || number < std::numeric_limits<T>::min() ||
          number > std::numeric_limits<T>::max()) {
        return fail(ErrorCode::kInvalidArgument, "{}: the field '{}' is out of range", what_, name);
      }
      value = static_cast<T>(number);
    }
    return {};
  }

  const J& object_;
  std::string_view what_;
  size_t taken_ = 0;
};

}  // namespace shoal
