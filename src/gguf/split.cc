#include "gguf/split.h"

#include <unordered_map>

#include "gguf/part_name.h"

namespace shoal::gguf {
namespace {

// What a part may say of the model a second time, and must then say alike.
Status check_same_model(const File& part, const File& first) {
  for (const std::string_view key : {"general.architecture", "general.name"}) {
    const auto here = part.string(key);
    const auto there = first.string(key);
    if (here && there && *here != *there) {
      return fail(ErrorCode::kCorrupt,
                  "{}: the metadata key {} is {}, and {} in {}: the two are parts of different "
                  "models; download the right part",
                  part.path(), printable(key), printable(*here), printable(*there), first.path());
    }
  }
  return {};
}

Status check_place(const File& part, size_t index, const File& first, const SplitFacts& model) {
  SHOAL_ASSIGN(const auto facts, split_facts(part));
  if (!facts) {
    return fail(ErrorCode::kCorrupt,
                "{} is a whole model by its metadata, where part {} of {} of {} is expected; "
                "download the right part",
                part.path(), index + 1, model.count, first.path());
  }
  if (facts->count != model.count) {
    return fail(ErrorCode::kCorrupt,
                "{} is a part of a model in {} parts by its metadata, and {} of one in {}: they "
                "are different models; download the right part",
                part.path(), facts->count, first.path(), model.count);
  }
  if (facts->number != static_cast<int64_t>(index) + 1) {
    return fail(ErrorCode::kCorrupt,
                "{} is part {} of {} by its metadata, where part {} is expected; it has another "
                "part's name or contents, download it again",
                part.path(), facts->number, facts->count, index + 1);
  }
  if (facts->tensor_count && model.tensor_count && *facts->tensor_count != *model.tensor_count) {
    return fail(ErrorCode::kCorrupt,
                "{} is a part of a model of {} tensors, and {} of one of {}: they are different "
                "models; download the right part",
                part.path(), *facts->tensor_count, first.path(), *model.tensor_count);
  }
  return check_same_model(part, first);
}

}  // namespace

Result<std::optional<SplitFacts>> split_facts(const File& file) {
  if (file.find("split.count") == nullptr) return std::nullopt;
  SplitFacts facts;
  SHOAL_ASSIGN(facts.count, file.integer("split.count"));
  if (facts.count == 0 || facts.count == 1) return std::nullopt;
  if (facts.count < 0 || facts.count > 99999) {
    return fail(ErrorCode::kCorrupt, "{}: the metadata key \"split.count\": {} parts cannot be",
                file.path(), facts.count);
  }
  SHOAL_ASSIGN(const int64_t index, file.integer("split.no"));
  if (index < 0 || index >= facts.count) {
    return fail(ErrorCode::kCorrupt,
                "{}: the metadata key \"split.no\": part {} (counted from 0) of {} cannot be",
                file.path(), index, facts.count);
  }
  facts.number = index + 1;
  if (file.find("split.tensors.count") != nullptr) {
    SHOAL_ASSIGN(facts.tensor_count, file.integer("split.tensors.count"));
  }
  return facts;
}

Result<std::vector<std::string>> parts_beside(const std::string& path, const SplitFacts& facts) {
  const auto name = parse_part_name(path);
  if (!name) {
    return fail(ErrorCode::kInvalidArgument,
                "{} is part {} of {} of a split model, but is not called "
                "NAME-{:05}-of-{:05}.gguf, so its other parts cannot be found; give all parts "
                "back the names that they were published under",
                path, facts.number, facts.count, facts.number, facts.count);
  }
  if (name->number != facts.number || name->count != facts.count) {
    return fail(ErrorCode::kCorrupt,
                "{} is part {} of {} by its name, and part {} of {} by its metadata; it was "
                "renamed or is from another model, download it again",
                path, name->number, name->count, facts.number, facts.count);
  }
  return part_paths(path);
}

Status check_parts(const std::vector<File>& parts) {
  const File& first = parts.front();
  SHOAL_ASSIGN(const auto model, split_facts(first));
  if (!model || model->count != static_cast<int64_t>(parts.size())) {
    return fail(ErrorCode::kUnsupported,
                "{}: this is part {} of {} of a split model, and only together can the parts be "
                "read",
                first.path(), model ? model->number : 1, model ? model->count : 1);
  }
  std::unordered_map<std::string_view, const File*> holders;
  for (size_t index = 0; index < parts.size(); ++index) {
    SHOAL_TRY(check_place(parts[index], index, first, *model));
    for (const TensorInfo& tensor : parts[index].tensors()) {
      const auto [holder, fresh] = holders.emplace(tensor.name, &parts[index]);
      if (fresh) continue;
      return fail(ErrorCode::kCorrupt,
                  "{}: the tensor {} is in {} as well: one of the two files is from another "
                  "model, download both again",
                  parts[index].path(), printable(tensor.name), holder->second->path());
    }
  }
  if (model->tensor_count && static_cast<int64_t>(holders.size()) != *model->tensor_count) {
    return fail(ErrorCode::kCorrupt,
                "{} and its other parts hold {} tensors together, and \"split.tensors.count\" "
                "says {}: a part is from another model, download them again",
                first.path(), holders.size(), *model->tensor_count);
  }
  return {};
}

}  // namespace shoal::gguf
