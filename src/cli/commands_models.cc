// pull, list, rm, inspect, perplexity, tokenize: models on this machine's disk, with or without a
// daemon.
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <iostream>
#include <iterator>

#include "base/file.h"
#include "base/units.h"
#include "cli/catalogue_list.h"
#include "cli/commands.h"
#include "cli/inspect.h"
#include "cli/interrupt.h"
#include "cli/perplexity.h"
#include "cli/remote_inspect.h"
#include "cli/screen.h"
#include "cli/tokenize.h"
#include "serve/model_sampling.h"
#include "store/store.h"

namespace shoal::cli {
namespace {

std::string phase_of(const PullEvent& event, const std::string& model) {
  switch (event.phase) {
    case PullEvent::Phase::kWaiting:
      return "waiting for another pull of " + model;
    case PullEvent::Phase::kChecking:
      return "checking " + model;
    case PullEvent::Phase::kDownloading:
      return "pulling " + model;
    case PullEvent::Phase::kUnpacking:
      return "unpacking " + model;
    case PullEvent::Phase::kNote:
      break;
  }
  return event.note;
}

Json to_json(const ModelFile& file) {
  return {{"name", file.name},
          {"path", file.path},
          {"sha256", file.sha256},
          {"size_bytes", file.size_bytes},
          {"part_count", file.part_count},
          {"source", file.source},
          {"kept_by", file.kept_by.empty() ? Json() : Json(file.kept_by)}};
}

Result<ModelFile> pull(const Common& common, const std::string& model) {
  SHOAL_ASSIGN(const std::unique_ptr<Store> store, Store::open(common.home));
  Progress progress(common.quiet);
  static std::atomic<bool> cancel{false};
  const auto show = [&](const PullEvent& event) {
    if (interrupted()) cancel = true;
    if (event.phase == PullEvent::Phase::kNote) {
      progress.clear();
      if (!common.quiet) fmt::print(stderr, "{}\n", event.note);
    } else {
      progress.show(phase_of(event, model), event.done_bytes, event.total_bytes);
    }
  };
  return store->pull(model, show, &cancel);
}

// What the catalogue recommends for a model on disk. A file outside of every store is no reason to
// make one.
std::vector<SamplingDefault> recommended_for(const Common& common, const std::string& model) {
  std::error_code ignored;
  if (!std::filesystem::exists(common.home + "/store.db", ignored)) return {};
  const Result<std::unique_ptr<Store>> store = Store::open(common.home);
  const Result<ModelFile> file = store ? (*store)->resolve(model) : std::unexpected(store.error());
  if (!file) return {};
  return serve::catalogue_sampling(**store, model, *file).value_or(std::vector<SamplingDefault>());
}

bool runs(const Common& common, const ModelFile& file) {
  Client client = common.client();
  const Result<Json> answer = client.get("/admin/ps");
  if (!answer) return false;
  for (const Json& instance : (*answer)["instances"]) {
    if (instance.value("sha256", "") == file.sha256) return true;
  }
  return false;
}

}  // namespace

Result<std::string> path_of(const Common& common, const std::string& model) {
  const std::string meant = model_for_daemon(model);
  if (meant.starts_with("/")) return meant;
  SHOAL_ASSIGN(const std::unique_ptr<Store> store, Store::open(common.home));
  SHOAL_ASSIGN(const ModelFile file, store->resolve(meant));
  return file.path;
}

Status pull_with_progress(const Common& common, const std::string& model) {
  SHOAL_TRY(pull(common, model));
  return {};
}

int pull_command(const Common& common, const std::string& model) {
  catch_interrupts();
  const Result<ModelFile> file = pull(common, model);
  if (!file) return report(common, file.error());
  if (common.json) {
    std::cout << dump_json(to_json(*file), 2) << '\n';
  } else if (!common.quiet) {
    fmt::print(stderr, "{} is at {} ({}, SHA-256 {}...)\n", file->name, file->path,
               format_bytes(file->size_bytes), file->sha256.substr(0, 12));
  }
  return 0;
}

int list_command(const Common& common, bool catalogue) {
  const Result<std::unique_ptr<Store>> store = Store::open(common.home);
  if (!store) return report(common, store.error());
  const Result<std::vector<ModelFile>> files = (*store)->list();
  if (!files) return report(common, files.error());
  if (catalogue) {
    const Result<Catalogue> known = (*store)->catalogue();
    if (!known) return report(common, known.error());
    std::cout << (common.json ? dump_json(catalogue_json(*known, *files), 2) + "\n"
                              : catalogue_text(*known, *files));
    return 0;
  }
  Json list = Json::array();
  Table table({"model", "size", "from", "path"});
  for (const ModelFile& file : *files) {
    list.push_back(to_json(file));
    table.add({file.name, format_bytes(file.size_bytes), file.source, file.path});
  }
  if (common.json) {
    std::cout << dump_json(Json{{"models", list}}, 2) << '\n';
  } else if (files->empty()) {
    fmt::print(stderr,
               "No models yet. `shoal list --catalogue` shows what `shoal pull` can fetch.\n");
  } else {
    std::cout << table.text();
  }
  return 0;
}

int rm_command(const Common& common, const std::string& model) {
  const Result<std::unique_ptr<Store>> store = Store::open(common.home);
  if (!store) return report(common, store.error());
  if (const Result<ModelFile> file = (*store)->resolve(model);
      file && !file->sha256.empty() && runs(common, *file)) {
    return report(common, {ErrorCode::kConflict,
                           fmt::format("{} is running; `shoal stop {}` first", model, model)});
  }
  const Status removed = (*store)->remove(model);
  if (!removed) return report(common, removed.error());
  if (common.json) std::cout << dump_json(Json{{"removed", model}}) << '\n';
  if (!common.json && !common.quiet) fmt::print(stderr, "{} is deleted.\n", model);
  return 0;
}

int inspect_model_command(const Common& common, const std::string& model, bool card_only) {
  const Result<std::string> path = path_of(common, model);
  if (path) {
    const auto recommended = card_only ? std::vector<SamplingDefault>()
                                       : recommended_for(common, model_for_daemon(model));
    return inspect_command(*path, common.json, card_only, recommended);
  }
  // Not here: its header is looked at where it lies, unless MODEL is a path.
  if (path.error().code != ErrorCode::kNotFound || model_for_daemon(model).starts_with("/"))
    return report(common, path.error());
  catch_interrupts();
  const Result<std::unique_ptr<Store>> store = Store::open(common.home);
  if (!store) return report(common, store.error());
  const auto sources = (*store)->remote_files(model);
  if (!sources) return report(common, sources.error());
  Result<RemoteModel> remote = open_remote(*sources, (*store)->patience());
  if (!remote) return report(common, remote.error());
  const auto recommended = serve::catalogue_sampling(**store, model, {});
  if (!recommended) return report(common, recommended.error());
  return inspect_opened(std::move(remote->file), common.json, card_only, *recommended);
}

int perplexity_command(const Common& common, const std::string& model, const std::string& file) {
  catch_interrupts();
  PerplexityOptions options;
  Result<std::string> path = path_of(common, model);
  if (!path) return report(common, path.error());
  Result<std::string> text = read_file(file, 1ull << 30);
  if (!text) return report(common, text.error());
  options.model_path = std::move(*path);
  options.text = std::move(*text);
  if (options.text.ends_with('\n')) options.text.pop_back();  // the file's end, as llama.cpp reads
  if (common.context > 0) options.context = common.context;
  if (!common.kv_type.empty()) {
    const Result<KvType> kv_type = kv_type_named(common.kv_type);
    if (!kv_type) return report(common, kv_type.error());
    options.kv_type = *kv_type;
  }
  options.threads = common.threads;
  options.isa = common.isa;
  const bool terminal = ::isatty(STDERR_FILENO) == 1 && !common.quiet;
  const Result<PerplexityResult> result =
      perplexity(options, [&](int64_t done, int64_t all, double so_far) {
        if (terminal)
          fmt::print(stderr, "\r\033[Kwindow {} of {}, perplexity {:.4f}", done, all, so_far);
        return !interrupted();
      });
  if (terminal) fmt::print(stderr, "\r\033[K");
  if (!result) return report(common, result.error());
  if (common.json) {
    std::cout << dump_json(to_json(*result), 2) << '\n';
  } else {
    std::cout << fmt::format(
        "perplexity {:.4f} +/- {:.4f} over {} tokens ({} windows of {}, the second half of each "
        "scored)\n",
        result->perplexity, result->uncertainty, result->tokens, result->windows, result->context);
  }
  return 0;
}

int tokenize_command(const Common& common, const std::string& model,
                     std::optional<std::string> text) {
  const Result<std::string> path = path_of(common, model);
  if (!path) return report(common, path.error());
  if (!text) text = std::string(std::istreambuf_iterator<char>(std::cin), {});
  const Result<Tokenized> tokenized = tokenize(*path, *text);
  if (!tokenized) return report(common, tokenized.error());
  std::cout << (common.json ? dump_json(to_json(*tokenized)) + "\n" : to_text(*tokenized));
  return 0;
}

}  // namespace shoal::cli
