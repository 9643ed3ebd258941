#include "engine/agreement.h"

#include <algorithm>
#include <array>

#include "base/json.h"

namespace shoal {

namespace {

constexpr int kProtocol = 3;  // of step headers, results and this message

struct Subject {
  const char* field;
  const char* meaning;
};
constexpr std::array<Subject, 11> kSubjects = {{
    {"protocol", "its version of the step protocol"},
    {"file", "its model file (pull the model again on that node)"},
    {"kv_type", "its type of KV cache"},
    {"page_tokens", "its positions per KV page"},
    {"kv_pages", "its number of KV pages"},
    {"sequences", "its number of sequences"},
    {"max_rows", "its most rows of a step"},
    {"max_wanted_rows", "its most rows with results"},
    {"context", "its context"},
    {"payload", "the type of its payloads"},
    {"least_part_rows", "its rows of a step's part"},
}};

void add_value(Sha256& digest, const gguf::Value& value) {
  std::visit(
      [&]<typename T>(const T& one) {
        if constexpr (std::is_same_v<T, gguf::Array>) {
          digest.add(as_bytes(fmt::format("{} x {}\n", one.count, one.element_type)));
          digest.add(one.bytes);
        } else if constexpr (std::is_same_v<T, std::string_view>) {
          digest.add(as_bytes(fmt::format("{} bytes\n", one.size())));
          digest.add(as_bytes(one));
        } else {
          digest.add(std::as_bytes(std::span(&one, 1)));
        }
      },
      value);
}

}  // namespace

Result<std::string> fingerprint(const gguf::File& file) {
  constexpr size_t kSampleBytes = 1024;
  Sha256 digest;
  digest.add(as_bytes(fmt::format("{} bytes\n", file.size_bytes())));
  for (const auto& [key, value] : file.metadata()) {
    digest.add(as_bytes(fmt::format("{} {} {}\n", key.size(), key, value.index())));
    add_value(digest, value);
  }
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    digest.add(
        as_bytes(fmt::format("{} {} {} {} {}\n", tensor.name, tensor.type,
                             fmt::join(tensor.dimensions, "x"), tensor.offset, tensor.size_bytes)));
    const auto bytes = file.tensor_bytes(tensor);
    digest.add(bytes.first(std::min(bytes.size(), kSampleBytes)));
  }
  return digest.finish();
}

std::string agreement_text(const std::string& file_digest, const RankCut& cut,
                           const EngineOptions& options, int page_tokens) {
  const Json text = {{"protocol", kProtocol},
                     {"file", file_digest},
                     {"kv_type", kv_type_name(options.kv_type)},
                     {"page_tokens", page_tokens},
                     {"kv_pages", options.kv_pages},
                     {"sequences", options.sequences},
                     {"max_rows", options.max_rows},
                     {"max_wanted_rows", options.max_wanted_rows},
                     {"context", options.max_positions},
                     {"payload", payload_name(options.payload)},
                     {"least_part_rows", options.least_part_rows},
                     {"cut", to_json(cut)}};
  return dump_json(text);
}

Result<std::vector<RankCut>> agree(Group& group, const gguf::File& file, const RankCut& cut,
                                   const EngineOptions& options, int page_tokens) {
  SHOAL_ASSIGN(const std::string file_digest, fingerprint(file));
  const std::string mine = agreement_text(file_digest, cut, options, page_tokens);
  std::vector<Bytes> parts;
  SHOAL_TRY(group.all_gather(as_bytes(mine), parts, Clock::now() + options.forming_timeout));
  std::vector<RankCut> cuts;
  Json first;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    auto theirs = parse_json(as_text(parts[rank]));
    if (!theirs || !theirs->is_object() || !theirs->contains("cut")) {
      return fail(ErrorCode::kCorrupt, "rank {} sent {} bytes that do not describe its part", rank,
                  parts[rank].size());
    }
    auto their_cut = rank_cut_from_json(theirs->at("cut"));
    if (!their_cut) return std::unexpected(their_cut.error().within(fmt::format("rank {}", rank)));
    cuts.push_back(*their_cut);
    if (rank == 0) first = *theirs;
    for (const auto& [field, meaning] : kSubjects) {
      const Json& value = theirs->contains(field) ? theirs->at(field) : Json();
      const Json& wanted = first.contains(field) ? first.at(field) : Json();
      if (value == wanted) continue;
      return fail(ErrorCode::kConflict, "rank {} differs from rank 0 in {}: {} against {}", rank,
                  meaning, dump_json(value), dump_json(wanted));
    }
  }
  return cuts;
}

Status agree_loaded(Group& group, const Status& mine, Deadline deadline) {
  const std::string sentence = mine ? "" : mine.error().message;
  std::vector<Bytes> sentences;
  const Status exchanged = group.all_gather(as_bytes(sentence), sentences, deadline);
  if (!mine) return mine;
  SHOAL_TRY(exchanged);
  for (size_t rank = 0; rank < sentences.size(); ++rank) {
    if (sentences[rank].empty()) continue;
    return fail(ErrorCode::kUnreachable, "rank {} could not load its part: {}", rank,
                as_text(sentences[rank]));
  }
  return {};
}

}  // namespace shoal
