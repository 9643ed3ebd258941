#include "serve/model_sampling.h"

namespace shoal::serve {
namespace {

const CatalogueEntry* entry_of(const Catalogue& catalogue, const std::string& model,
                               const ModelFile& file) {
  for (const std::string& name : {model, file.name}) {
    const auto found = catalogue.find(name);
    if (found && *found) return *found;
  }
  for (const CatalogueEntry& entry : catalogue.entries()) {
    if (!entry.sha256.empty() && entry.sha256 == file.sha256) return &entry;
  }
  return nullptr;
}

}  // namespace

Result<std::vector<SamplingDefault>> catalogue_sampling(const Store& store,
                                                        const std::string& model,
                                                        const ModelFile& file) {
  SHOAL_ASSIGN(const Catalogue catalogue, store.catalogue());
  std::vector<SamplingDefault> defaults;
  const CatalogueEntry* entry = entry_of(catalogue, model, file);
  if (entry == nullptr) return defaults;
  const auto add = [&](const char* name, const auto& value) {
    if (value) defaults.push_back({name, static_cast<double>(*value), "catalogue"});
  };
  add("temperature", entry->sampling.temperature);
  add("top_p", entry->sampling.top_p);
  add("top_k", entry->sampling.top_k);
  add("min_p", entry->sampling.min_p);
  return defaults;
}

}  // namespace shoal::serve
