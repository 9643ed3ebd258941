// Any bytes as a model file: read, inspected, described, cut and made into programs. Besides the
// sanitizers it checks what must hold of everything that is accepted.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "cli/inspect.h"
#include "gguf/gguf.h"
#include "models/model.h"

namespace {

using namespace shoal;

void must(bool condition) {
  if (!condition) std::abort();
}

void read_everything(const gguf::File& file) {
  for (const auto& entry : file.metadata()) {
    must(file.find(entry.key) == &entry.value);
    (void)file.integer(entry.key);
    (void)file.number(entry.key);
    (void)file.boolean(entry.key);
    (void)file.string(entry.key);
    (void)file.integers(entry.key);
    (void)file.numbers(entry.key);
    if (const auto texts = file.strings(entry.key)) {
      for (const std::string_view text : *texts) must(text.empty() || text.data() != nullptr);
    }
  }
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    must(file.find_tensor(tensor.name) == &tensor);
    must(tensor.offset <= file.size_bytes() &&
         tensor.size_bytes <= file.size_bytes() - tensor.offset);
    if (const auto source = file.tensor(tensor.name)) {
      must(source->bytes.size() ==
           static_cast<uint64_t>(source->rows) * row_bytes(source->type, source->columns));
    }
    file.release(tensor);
  }
}

void cut_and_build(const ModelDescription& model, const ModelCard& card) {
  const auto back = model_card_from_json(to_json(card));
  must(back && *back == card);
  must(build_program(model, whole(card), 512).has_value());
  const std::vector<double> shares = {0.6, 0.3, 0.1};
  for (size_t ranks = 1; ranks <= shares.size(); ++ranks) {
    for (const Balance balance : {Balance::kEachKind, Balance::kTotal}) {
      const auto cuts = partition(card, std::span(shares).first(ranks), balance);
      if (!cuts) continue;
      for (const RankCut& cut : *cuts) {
        must(rank_cut_from_json(to_json(cut)) == cut);
        must(build_program(model, cut, 512).has_value());
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = gguf::File::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf");
  if (!file) return 0;
  read_everything(*file);
  (void)cli::inspection_text(*file);
  (void)dump_json(cli::inspection_json(*file));
  const auto model = describe(*file);
  if (!model) return 0;
  cut_and_build(*model, model_card(*file, *model));
  return 0;
}
