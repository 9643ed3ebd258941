// The command line: flags, and one function per command. Each returns the process's exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/client.h"

namespace shoal::cli {

// Flags that every command takes.
struct Common {
  std::string home;
  std::string host;
  std::string api_key;
  bool json = false;
  bool quiet = false;
  int threads = 0;  // 0: all usable cores
  std::string isa;
  std::string kv_type;
  int64_t context = 0;
  int64_t max_tokens = -1;
  std::optional<uint64_t> seed;
  std::optional<double> temperature;

  Client client() const { return Client(home, host, api_key); }
};

struct RunArguments {
  std::string model;
  std::optional<std::string> prompt;
  std::string system;
  bool raw = false;  // continue the prompt, without the chat template
  int nodes = 0;
  int64_t sequences = 0;
  Json sampling = Json::object();  // the request's fields that the flags name
  bool verbose = false;            // show what each sampler left
  std::vector<std::string> stop;
};

struct PlanArguments {
  std::string model;
  std::string topology_path;
  int64_t sequences = 0;
  int nodes = 0;
  std::string mode, payload;  // empty: the planner's choice
};

struct BenchArguments {
  std::string model;
  std::optional<std::string> prompt_tokens, output_tokens, batches, contexts;  // lists
  int64_t repeat = 3;
  bool profile = false;
};

struct BenchRanksArguments {
  std::string model;
  std::optional<int> ranks;
  std::string mode = "tensor";
  std::optional<std::string> link;
  std::string at;      // codes of other machines
  std::string listen;  // address to wait at for another machine's bench
  std::string payload = "f32";
  std::string parts;
  std::string plan_path;
  std::optional<int> only_rank;
  bool pin = false;
  bool netns = false;
  std::string rate;
  bool alone = false;
  int64_t prompt_tokens = 512;
  int64_t output_tokens = 64;
  int64_t batch = 1;
  int64_t context = 0;
  int64_t repeat = 3;
};

struct BenchLinksArguments {
  std::optional<std::string> links, sizes;  // lists
  std::string node;                         // the link to this member alone
};

int run_command_line(int argc, char** argv);

int run_model(const Common& common, const RunArguments& arguments);
int plan_command(const Common& common, const PlanArguments& arguments);
int links_command(const Common& common);
int place_command(const Common& common, const PlanArguments& arguments);
int ps_command(const Common& common);
int stop_command(const Common& common, const std::string& model);
int nodes_command(const Common& common);
int status_command(const Common& common);
int pull_command(const Common& common, const std::string& model);
int list_command(const Common& common, bool catalogue);
int rm_command(const Common& common, const std::string& model);
int inspect_model_command(const Common& common, const std::string& model, bool card_only);
int perplexity_command(const Common& common, const std::string& model, const std::string& file);
int tokenize_command(const Common& common, const std::string& model,
                     std::optional<std::string> text);
int bench_command(const Common& common, const BenchArguments& arguments);
int bench_ranks_command(const Common& common, const BenchRanksArguments& arguments);
int bench_links_command(const Common& common, const BenchLinksArguments& arguments);
int invite_command(const Common& common);
int join_command(const Common& common, const std::string& code);
int leave_command(const Common& common);
int remove_command(const Common& common, const std::string& node);

// "shoal: sentence" on standard error (and {"error":...} on standard output with --json); the
// error's exit code.
int report(const Common& common, const Error& error);

// Pulls with a progress bar. `model` is a catalogue name or hf:... name.
Status pull_with_progress(const Common& common, const std::string& model);
// Asks the daemon to place the model, pulling it first when it is not on disk; shows progress.
// Returns the instance.
Result<Json> place_model(const Common& common, Client& client, const PlanArguments& arguments);
// The model and what is wanted of its plan, as the daemon is asked for it.
Json wish_json(const Common& common, const PlanArguments& arguments);
// A name or a path, to the file on this machine's disk; kNotFound.
Result<std::string> path_of(const Common& common, const std::string& model);
// A path becomes absolute, as the daemon has another working directory; names stay.
std::string model_for_daemon(const std::string& model);

}  // namespace shoal::cli
