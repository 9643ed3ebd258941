#include "cli/inspect.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>

#include "base/bytes.h"
#include "base/units.h"
#include "cli/screen.h"
#include "models/model.h"
#include "placement/placement.h"

namespace shoal::cli {
namespace {

constexpr size_t kColumns = 80;
constexpr uint64_t kShownElements = 8;

// Bytes of the UTF-8 character at the start of `text`; 0 when it is not one that may be shown:
// broken, or a control character, with which a file could drive the terminal.
size_t shown_character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return byte(0) >= 0x20 && byte(0) != 0x7f ? 1 : 0;
  const size_t length = byte(0) >= 0xf0 && byte(0) < 0xf5   ? 4
                        : byte(0) >= 0xe0 && byte(0) < 0xf0 ? 3
                        : byte(0) >= 0xc2 && byte(0) < 0xe0 ? 2
                                                            : 0;
  if (length == 0 || length > text.size()) return 0;
  uint32_t code = byte(0) & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  const bool shortest = code >= (length == 2 ? 0x80u : length == 3 ? 0x800u : 0x10000u);
  const bool control = code < 0xa0 || (code >= 0x200e && code <= 0x200f) ||
                       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
                       (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff;
  return shortest && !control ? length : 0;
}

// On one line of at most `width` characters, "..." where it was longer.
std::string one_line(std::string_view text, size_t width) {
  std::string out;
  std::string cut;  // `out` as it was when three characters were still free
  size_t used = 0;
  while (!text.empty()) {
    const size_t bytes = shown_character_bytes(text);
    std::string piece = bytes > 0         ? std::string(text.substr(0, bytes))
                        : text[0] == '\n' ? "\\n"
                        : text[0] == '\t'
                            ? "\\t"
                            : fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    const size_t wide = bytes > 0 ? 1 : piece.size();
    if (used + wide + 3 > width && cut.empty()) cut = out + "...";
    if (used + wide > width) return cut;
    out += piece;
    used += wide;
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return out;
}

Json scalar_json(const gguf::Value& value) {
  return std::visit(
      [](const auto& held) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, gguf::Array>) {
          return nullptr;
        } else {
          return held;
        }
      },
      value);
}

// The first elements of an array; the key is known to hold one.
Json first_elements(const gguf::Array& array) {
  Json out = Json::array();
  std::span<const std::byte> rest = array.bytes;
  const auto take = [&]<typename T>(T) {
    T value;
    std::memcpy(&value, rest.data(), sizeof value);
    rest = rest.subspan(sizeof value);
    return value;
  };
  for (uint64_t i = 0; i < std::min(array.count, kShownElements); ++i) {
    switch (static_cast<gguf::ValueType>(array.element_type)) {
      case gguf::ValueType::kUint8:
        out.push_back(take(uint8_t{}));
        break;
      case gguf::ValueType::kInt8:
        out.push_back(take(int8_t{}));
        break;
      case gguf::ValueType::kUint16:
        out.push_back(take(uint16_t{}));
        break;
      case gguf::ValueType::kInt16:
        out.push_back(take(int16_t{}));
        break;
      case gguf::ValueType::kUint32:
        out.push_back(take(uint32_t{}));
        break;
      case gguf::ValueType::kInt32:
        out.push_back(take(int32_t{}));
        break;
      case gguf::ValueType::kFloat32:
        out.push_back(take(float{}));
        break;
      case gguf::ValueType::kUint64:
        out.push_back(take(uint64_t{}));
        break;
      case gguf::ValueType::kInt64:
        out.push_back(take(int64_t{}));
        break;
      case gguf::ValueType::kFloat64:
        out.push_back(take(double{}));
        break;
      case gguf::ValueType::kBool:
        out.push_back(take(uint8_t{}) != 0);
        break;
      case gguf::ValueType::kString: {
        const auto length = take(uint64_t{});
        out.push_back(as_text(rest.first(length)));
        rest = rest.subspan(length);
        break;
      }
      case gguf::ValueType::kArray:
        break;
    }
  }
  return out;
}

std::string type_name(uint32_t type) {
  const ElementTraits* traits = element_traits(type);
  return traits != nullptr ? std::string(traits->name) : fmt::format("type {}", type);
}

struct TypeTotal {
  std::string name;
  uint64_t tensor_count = 0;
  uint64_t bytes = 0;
};

std::vector<TypeTotal> totals_by_type(const gguf::File& file) {
  std::map<uint32_t, TypeTotal> totals;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    TypeTotal& total = totals[tensor.type];
    total.name = type_name(tensor.type);
    ++total.tensor_count;
    total.bytes += tensor.size_bytes;
  }
  std::vector<TypeTotal> out;
  for (auto& [type, total] : totals) out.push_back(std::move(total));
  std::ranges::stable_sort(out, std::greater(), &TypeTotal::bytes);
  return out;
}

Result<ModelCard> card_of(const gguf::File& file) {
  SHOAL_ASSIGN(const ModelDescription description, describe(file));
  return model_card(file, description);
}

// --- for people ---

std::string row(std::string_view name, std::string_view value, size_t name_width = 14) {
  const std::string start = fmt::format("  {:<{}}  ", one_line(name, kColumns / 2), name_width);
  return start + one_line(value, kColumns - std::min(start.size(), kColumns - 8)) + "\n";
}

std::string scalar_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : dump_json(value);
}

std::string value_text(const gguf::Value& value) {
  const auto* array = std::get_if<gguf::Array>(&value);
  if (const float* number = std::get_if<float>(&value)) return fmt::format("{}", *number);
  if (array == nullptr) return scalar_text(scalar_json(value));
  std::string text =
      fmt::format("{} x {}:", array->count, gguf::value_type_name(array->element_type));
  for (const Json& element : first_elements(*array))
    text += fmt::format(" {},", scalar_text(element));
  if (array->count > kShownElements) return text + " ...";
  text.pop_back();  // the last comma, or the colon of an empty array
  return text;
}

std::string count_text(uint64_t count) {
  if (count < 1'000'000) return fmt::format("{}", count);
  const auto value = static_cast<double>(count);
  return count < 1'000'000'000 ? fmt::format("{:.0f} million", value / 1e6)
                               : fmt::format("{:.2f} billion", value / 1e9);
}

std::string feed_forward_text(const ModelCard& card) {
  std::string text = fmt::format("{}", card.hidden);
  if (card[CutKind::kFeedForward].count > 0)
    text += fmt::format(", feed-forward {}", card[CutKind::kFeedForward].count);
  if (card.expert_count > 0) {
    text += fmt::format(", {} experts of {}, {} at a time", card.expert_count,
                        card[CutKind::kExperts].count, card.experts_used);
  }
  if (card[CutKind::kSharedExpert].count > 0)
    text += fmt::format(", a shared one of {}", card[CutKind::kSharedExpert].count);
  return text;
}

uint64_t kv_bytes_of(const ModelCard& card, KvType type, int64_t positions) {
  return kv_bytes(card, whole(card), type, positions, kStepRows);
}

std::string model_text(const ModelCard& card) {
  std::string out = "\nModel\n";
  out += row("name", card.name);
  out += row("architecture", card.architecture);
  out += row("parameters", count_text(card.parameter_count));
  out += row("quantisation", card.quantisation);
  out += row("layers", fmt::format("{}", card.layer_count));
  out += row("hidden", feed_forward_text(card));
  out += row("heads", fmt::format("{} of {}, {} for keys and values", card.head_count,
                                  card.head_dimension, card.kv_head_count));
  out += row("vocabulary",
             fmt::format("{}{}", card[CutKind::kVocabulary].count,
                         card.tied_embedding ? ", one table for embedding and head" : ""));
  out += row("context", fmt::format("{} tokens, as trained", card.context_length));
  out += "\nMemory\n";
  out += row("weights", format_bytes(weight_bytes(card, whole(card))));
  const auto kv = [&](int64_t positions) {
    return format_bytes(kv_bytes_of(card, KvType::kF16, positions));
  };
  out += row("KV cache", fmt::format("{} per 1000 tokens in f16", kv(1000)));
  out += row("", fmt::format("{} at the trained context", kv(card.context_length)));
  for (const CacheFacts& cache : card.caches) {
    if (cache.latent) out += row("", "keys and values are kept as one latent per layer");
    if (cache.window > 0) {
      out += row("", fmt::format("{} of {} layers keep a window of {} tokens", cache.layer_count,
                                 card.layer_count, cache.window));
    }
  }
  return out;
}

std::vector<SamplingDefault> recommended(CatalogueDefaults catalogue, const FileSampling& of_file) {
  return merged({catalogue.begin(), catalogue.end()}, of_file.defaults);
}

std::string sampling_text(const gguf::File& file, CatalogueDefaults catalogue) {
  const FileSampling of_file = sampling_of_file(file);
  const auto defaults = recommended(catalogue, of_file);
  if (defaults.empty() && of_file.ignored.empty()) return "";
  std::string out = "\nSampling, where a request says nothing\n";
  for (const SamplingDefault& one : defaults)
    out += row(one.name, fmt::format("{} (of the {})", one.value, one.from));
  for (const std::string& sentence : of_file.ignored)
    out += fmt::format("  {}\n", wrapped(sentence, kColumns - 2, 2));
  return out;
}

std::string tensors_text(const gguf::File& file) {
  size_t name_width = 4;
  for (const gguf::TensorInfo& tensor : file.tensors())
    name_width = std::clamp(tensor.name.size(), name_width, size_t{40});
  std::string out = "\nTensors\n";
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    out += fmt::format("  {:<{}}  {:<7}  {:>10}  {}\n", one_line(tensor.name, name_width),
                       name_width, type_name(tensor.type), format_bytes(tensor.size_bytes),
                       fmt::join(tensor.dimensions, " x "));
  }
  return out;
}

}  // namespace

std::string inspection_text(const gguf::File& file, CatalogueDefaults catalogue) {
  const auto counted = [](size_t count, std::string_view one, std::string_view many) {
    return fmt::format("{} {}", count, count == 1 ? one : many);
  };
  std::string out =
      fmt::format("{}\n  GGUF version {}, {}{}, {}, {}\n", file.path(), file.version(),
                  format_bytes(file.size_bytes()),
                  file.part_count() > 1 ? fmt::format(" in {} files", file.part_count()) : "",
                  counted(file.metadata().size(), "metadata entry", "metadata entries"),
                  counted(file.tensors().size(), "tensor", "tensors"));
  const auto card = card_of(file);
  out +=
      card ? model_text(*card)
           : fmt::format("\nNot runnable\n  {}\n", wrapped(card.error().message, kColumns - 2, 2));
  out += sampling_text(file, catalogue);
  if (!file.tensors().empty()) out += "\nTypes\n";
  for (const TypeTotal& total : totals_by_type(file)) {
    out += row(total.name,
               fmt::format("{:>10} in {}", format_bytes(total.bytes),
                           counted(total.tensor_count, "tensor", "tensors")),
               7);
  }
  size_t key_width = 0;
  for (const auto& entry : file.metadata())
    key_width = std::clamp(entry.key.size(), key_width, size_t{40});
  if (!file.metadata().empty()) out += "\nMetadata\n";
  for (const auto& entry : file.metadata())
    out += row(entry.key, value_text(entry.value), key_width);
  if (!file.tensors().empty()) out += tensors_text(file);
  return out;
}

Json inspection_json(const gguf::File& file, CatalogueDefaults catalogue) {
  Json metadata = Json::array();
  for (const auto& entry : file.metadata()) {
    Json item = {{"key", entry.key},
                 {"type", gguf::value_type_name(static_cast<uint32_t>(entry.value.index()))}};
    if (const auto* array = std::get_if<gguf::Array>(&entry.value)) {
      item["element_type"] = gguf::value_type_name(array->element_type);
      item["count"] = array->count;
      item["first"] = first_elements(*array);
    } else {
      item["value"] = scalar_json(entry.value);
    }
    metadata.push_back(std::move(item));
  }
  Json tensors = Json::array();
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"type", type_name(tensor.type)},
                       {"shape", tensor.dimensions},
                       {"part", tensor.part},
                       {"offset", tensor.offset},
                       {"size_bytes", tensor.size_bytes}});
  }
  Json types = Json::array();
  for (const TypeTotal& total : totals_by_type(file)) {
    types.push_back(
        {{"type", total.name}, {"tensor_count", total.tensor_count}, {"bytes", total.bytes}});
  }
  const FileSampling of_file = sampling_of_file(file);
  const auto card = card_of(file);
  Json memory = nullptr;
  if (card) {
    memory = {{"weight_bytes", weight_bytes(*card, whole(*card))},
              {"kv_bytes_per_1000_tokens_f16", kv_bytes_of(*card, KvType::kF16, 1000)},
              {"kv_bytes_per_1000_tokens_f32", kv_bytes_of(*card, KvType::kF32, 1000)}};
  }
  return {{"path", file.path()},
          {"version", file.version()},
          {"file_bytes", file.size_bytes()},
          {"part_count", file.part_count()},
          {"alignment", file.alignment()},
          {"metadata", std::move(metadata)},
          {"tensors", std::move(tensors)},
          {"types", std::move(types)},
          {"model", card ? to_json(*card) : Json()},
          {"not_runnable", card ? Json() : Json(card.error().message)},
          {"memory", std::move(memory)},
          {"sampling_defaults", to_json(recommended(catalogue, of_file))},
          {"sampling_ignored", of_file.ignored}};
}

int inspect_command(const std::string& path, bool json, bool card_only,
                    CatalogueDefaults catalogue) {
  return inspect_opened(gguf::File::open(path), json, card_only, catalogue);
}

int inspect_opened(const Result<gguf::File>& file, bool json, bool card_only,
                   CatalogueDefaults catalogue) {
  const auto failed = [json](const Error& error) {
    if (json) fmt::print("{}\n", dump_json(error_json(error)));
    fmt::print(stderr, "shoal: {}\n", error.message);
    return exit_code(error.code);
  };
  if (!file) return failed(file.error());
  const auto card = card_of(*file);
  if (!card && (card_only || card.error().code != ErrorCode::kUnsupported))
    return failed(card.error());
  const std::string text = card_only ? dump_json(to_json(*card)) + "\n"
                           : json    ? dump_json(inspection_json(*file, catalogue), 2) + "\n"
                                     : inspection_text(*file, catalogue);
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return failed({ErrorCode::kIo, "cannot write to standard output"});
  }
  return 0;
}

}  // namespace shoal::cli
