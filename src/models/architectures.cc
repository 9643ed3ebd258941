#include <array>

#include "models/architecture.h"

namespace shoal {
namespace {

const std::array kArchitectures = {&kLlama};

Status check_range(std::string_view kind, const Range& range, int64_t total, int64_t unit) {
  if (range.begin < 0 || range.begin >= range.end || range.end > total) {
    return fail(ErrorCode::kInvalidArgument,
                "the cut's {} {} to {} are not a part of the model's {}", kind, range.begin,
                range.end, total);
  }
  for (const int64_t border : {range.begin, range.end}) {
    if (border % unit != 0 && border != total) {
      return fail(ErrorCode::kInvalidArgument,
                  "the cut's {} {} to {} must begin and end on multiples of {}", kind, range.begin,
                  range.end, unit);
    }
  }
  return {};
}

}  // namespace

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture* known : kArchitectures) {
    if (known->name == name) return known;
  }
  return nullptr;
}

std::string supported_architectures() {
  std::string names;
  for (const Architecture* known : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += known->name;
  }
  return names;
}

Result<ModelDescription> describe(const gguf::File& file) {
  const auto name = file.string("general.architecture");
  if (!name)
    return fail(ErrorCode::kCorrupt, "{}; the file does not say what model it holds",
                name.error().message);
  if (const auto type = file.string("general.type"); type && *type != "model") {
    return fail(ErrorCode::kUnsupported, "{}: the file holds {}, not a model", file.path(),
                gguf::printable(*type));
  }
  const Architecture* architecture = find_architecture(*name);
  if (architecture == nullptr) {
    return fail(ErrorCode::kUnsupported,
                "{}: the architecture {} is not supported; supported are: {}", file.path(),
                gguf::printable(*name), supported_architectures());
  }
  if (file.tensors().empty()) {
    return fail(
        ErrorCode::kUnsupported,
        "{}: the file holds no tensors, only a vocabulary; it can be tokenised with but not run",
        file.path());
  }
  SHOAL_ASSIGN(ModelDescription model, architecture->describe(file));
  SHOAL_TRY(check_tensors(file, model, architecture->tensors));
  return model;
}

Result<Program> build_program(const ModelDescription& model, const RankCut& cut) {
  const Architecture* architecture = find_architecture(model.architecture);
  if (architecture == nullptr) {
    return fail(ErrorCode::kUnsupported, "the architecture {} is not supported; supported are: {}",
                gguf::printable(model.architecture), supported_architectures());
  }
  SHOAL_TRY(check_range("KV heads", cut.kv_heads, model.kv_head_count,
                        kv_head_unit(model.head_count, model.kv_head_count, model.head_dimension)));
  SHOAL_TRY(check_range("feed-forward columns", cut.feed_forward, model.feed_forward, kCutUnit));
  SHOAL_TRY(check_range("vocabulary rows", cut.vocabulary, model.vocabulary_size, 1));
  return architecture->build(model, cut);
}

}  // namespace shoal
