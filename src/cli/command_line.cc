// From argv to a command.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <regex>

#include "base/cpu.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/commands.h"
#include "sampling/parameters.h"
#include "serve/serve.h"
#include "worker/worker.h"

namespace shoal::cli {
namespace {

std::string default_home() {
  if (const char* home = std::getenv("SHOAL_HOME"); home != nullptr && *home != '\0') return home;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data != '\0')
    return std::string(data) + "/shoal";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : "/root") + "/.local/share/shoal";
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// "; did you mean 'serve'?" when a name is near enough.
std::string suggestion(const std::string& typed, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, typed.size() / 3) + 1;
  for (const std::string& name : known) {
    const size_t distance = edit_distance(typed, name);
    if (distance < best_distance) {
      best_distance = distance;
      best = name;
    }
  }
  return best.empty() ? "" : fmt::format("; did you mean '{}'?", best);
}

std::vector<std::string> names_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

void add_flags_of(const CLI::App& app, std::vector<std::string>& names) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
}

int usage_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  const CLI::App* deepest = &app;
  while (!deepest->get_subcommands().empty()) deepest = deepest->get_subcommands().front();
  std::string sentence = error.what();
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::string flag = word.substr(0, word.find('='));
    if (word.starts_with("--")) {
      std::vector<std::string> flags;
      for (const CLI::App* level = deepest; level != nullptr; level = level->get_parent())
        add_flags_of(*level, flags);
      if (std::find(flags.begin(), flags.end(), flag) == flags.end()) {
        sentence = fmt::format("there is no flag '{}'{}", flag, suggestion(flag, flags));
        break;
      }
    }
  }
  if (deepest->get_subcommands().empty() && deepest->get_require_subcommand_min() > 0) {
    for (int i = 1; i < argc; ++i) {
      const std::string word = argv[i];
      if (word.starts_with("-") || word == deepest->get_name()) continue;
      sentence =
          fmt::format("there is no command '{}'{}", word, suggestion(word, names_of(*deepest)));
      break;
    }
  }
  std::string words;
  for (const CLI::App* level = deepest; level != &app; level = level->get_parent())
    words.insert(0, level->get_name() + " ");
  fmt::print(stderr, "shoal: {}\nTry `shoal {}--help`.\n", sentence, words);
  return exit_code(ErrorCode::kInvalidArgument);
}

void add_common_flags(CLI::App& app, Common& common) {
  app.add_flag("--json", common.json, "Print JSON");
  app.add_flag("--quiet,-q", common.quiet, "Say only what matters");
  app.add_option("--home", common.home, "All state of this node (SHOAL_HOME)")
      ->default_str(common.home);
  app.add_option("--host", common.host,
                 "Talk to the API of this host instead of this node (SHOAL_HOST)");
  app.add_option("--api-key", common.api_key, "Key for that API (SHOAL_API_KEY)");
  app.add_option("--threads,-t", common.threads,
                 "Threads that compute (default: every usable core)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--context,-c", common.context,
                 "Context in tokens (default: the largest that fits)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31));
  app.add_option("--max-tokens,-n", common.max_tokens, "Tokens to generate at most")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31));
  app.add_option("--isa", common.isa,
                 "Instruction set: reference, avx2, avx512, amx, neon (SHOAL_ISA)");
  app.add_option("--kv-type", common.kv_type, "KV cache: f32, f16 (default) or q8_0")
      ->check(CLI::IsMember({"f32", "f16", "q8_0"}));
  app.add_option("--seed", common.seed, "Seed of the sampler");
  app.add_option("--temperature", common.temperature, "0 is greedy")->check(CLI::Range(0.0, 100.0));
}

struct Parsed {
  Common common;
  RunArguments run;
  PlanArguments plan;
  BenchArguments bench;
  BenchLinksArguments bench_links;
  BenchRanksArguments bench_ranks;
  serve::ServeOptions serve;
  std::string model, file, text, code, node, memory;
  bool has_text = false, catalogue = false, card = false;
};

void add_serve(CLI::App& app, Parsed& parsed) {
  CLI::App* serve = app.add_subcommand("serve", "The daemon: start one on every machine");
  serve->add_option("--listen", parsed.serve.listen, "Address of the API")
      ->default_str(parsed.serve.listen);
  serve->add_option("--cluster-listen", parsed.serve.cluster_listen, "Address for other nodes")
      ->default_str(parsed.serve.cluster_listen);
  serve->add_option("--peer", parsed.serve.peers,
                    "HOST:PORT of a member, where nodes cannot find each other (repeatable)");
  serve->add_option("--memory", parsed.memory,
                    "Memory that models may use, such as 8GB (default: what the machine has)");
  serve->add_option("--name", parsed.serve.name, "This node's name (default: the host's)");
  serve->add_option("--link-mode", parsed.serve.link_mode, "Between workers: tls or plain")
      ->check(CLI::IsMember({"tls", "plain"}))
      ->default_str("tls");
  serve->add_flag("--ephemeral", parsed.serve.ephemeral, "End with the process that started it")
      ->group("");
}

void add_placing(CLI::App* command, PlanArguments& plan) {
  command
      ->add_option("model", plan.model, "Catalogue name, hf:owner/repo[:quant], or path of a GGUF")
      ->required();
  command->add_option("--sequences", plan.sequences, "Requests answered at once (default 4)")
      ->check(CLI::Range(1, 1024));
  command->add_option("--nodes", plan.nodes, "Exactly so many nodes (default: whatever is fastest)")
      ->check(CLI::Range(1, 64));
  command
      ->add_option("--mode", plan.mode,
                   "How nodes divide the model: auto, one_node, tensor, pipeline or hybrid")
      ->check(CLI::IsMember({"auto", "one_node", "tensor", "pipeline", "hybrid"}));
  command
      ->add_option("--payload", plan.payload,
                   "How numbers travel between nodes: auto, f32, bf16 or int8")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}));
}

// What is wrong with a word of the form TOKEN=BIAS; nothing: it is one.
std::string is_token_bias(const std::string& word) {
  const std::regex form("[0-9]{1,10}=-?[0-9]{1,3}(\\.[0-9]{1,9})?");
  return std::regex_match(word, form)
             ? ""
             : fmt::format("'{}' must be a token id, '=' and a number, such as 42=-5", word);
}

// "--top-k" for top_k, and so on: the flags write the fields of the request.
std::string flag_of(std::string_view field) {
  std::string flag = "--" + std::string(field);
  std::ranges::replace(flag, '_', '-');
  return flag;
}

void add_sampling(CLI::App& run, Json& fields) {
  for (const SamplingNumber& one : sampling_numbers()) {
    if (one.member == &SamplingParameters::temperature) continue;  // every command has it
    run.add_option_function<double>(
           flag_of(one.name), [&fields, name = one.name](double value) { fields[name] = value; },
           one.help)
        ->check(CLI::Range(one.lowest, one.highest));
  }
  for (const SamplingCount& one : sampling_counts()) {
    run.add_option_function<int64_t>(
           flag_of(one.name), [&fields, name = one.name](int64_t value) { fields[name] = value; },
           one.help)
        ->check(CLI::Range(one.lowest, one.highest));
  }
  std::vector<std::string_view> order;
  for (const Sampler sampler : default_samplers()) order.push_back(sampler_name(sampler));
  using Words = std::vector<std::string>;
  run.add_option_function<Words>(
         "--dry-sequence-breaker",
         [&fields](const Words& words) { fields["dry_sequence_breakers"] = words; },
         "Text over which DRY sees no repetition, instead of the usual ones (repeatable)")
      ->allow_extra_args(false);
  run.add_option_function<Words>(
         "--samplers", [&fields](const Words& names) { fields["samplers"] = names; },
         fmt::format("Their order; one not named is not applied (default: {})",
                     fmt::join(order, ",")))
      ->allow_extra_args(false)
      ->check([](const std::string& name) {
        const auto known = samplers_named(std::span(&name, 1));
        return known ? "" : known.error().message;
      })
      ->delimiter(',');
  run.add_option_function<Words>(
         "--logit-bias",
         [&fields](const Words& pairs) {
           for (const std::string& pair : pairs) {
             const size_t sign = pair.find('=');
             fields["logit_bias"][pair.substr(0, sign)] = std::stod(pair.substr(sign + 1));
           }
         },
         "TOKEN=BIAS: added to the logit of that token id (repeatable)")
      ->allow_extra_args(false)
      ->check(is_token_bias);
}

void add_run(CLI::App& app, Parsed& parsed) {
  CLI::App* run = app.add_subcommand(
      "run", "Place a model if needed, then answer, or chat when there is no prompt");
  run->add_option("model", parsed.run.model,
                  "Catalogue name, hf:owner/repo[:quant], or path of a GGUF")
      ->required();
  run->add_option("prompt", parsed.run.prompt, "What to ask; may come from a pipe instead");
  run->add_option("--system", parsed.run.system, "System message");
  run->add_flag("--raw", parsed.run.raw, "Continue the prompt as it is, without the chat template");
  run->add_option("--nodes", parsed.run.nodes, "Exactly so many nodes")->check(CLI::Range(1, 64));
  run->add_option("--sequences", parsed.run.sequences, "Requests answered at once (default 4)")
      ->check(CLI::Range(1, 1024));
  add_sampling(*run, parsed.run.sampling);
  run->add_flag(
      "--verbose", parsed.run.verbose,
      "Show for every token what each sampler left: how many, and the best few with their "
      "probability before and after");
  run->add_option("--stop", parsed.run.stop, "End the answer at this text (repeatable)");
}

void add_bench_links(CLI::App& bench, BenchLinksArguments& arguments) {
  CLI::App* command = bench.add_subcommand(
      "links", "What frames between ranks cost over each kind of link, and between nodes");
  command->add_option("--link", arguments.links,
                      "Which, such as shm,tls,plain,emulated:1gbe or emulated:ALPHA_US,GBPS");
  command->add_option("--sizes", arguments.sizes,
                      "Of frames (default 16KiB,32KiB,64KiB,1MiB,2MiB)");
  command->add_option("--node", arguments.node,
                      "Measure only the link from this node to that member, by name or id");
}

constexpr const char* kBenchRanksExamples =
    "One machine:     shoal bench ranks MODEL --ranks 2 --pin\n"
    "Two machines:    shoal bench ranks MODEL --listen 10.0.0.2:7470    (there)\n"
    "                 shoal bench ranks MODEL --at 10.0.0.2:7470/...    (here)\n"
    "A slower link:   shoal bench ranks MODEL --link emulated:2.5gbe\n"
    "Part of a model too big for this machine:\n"
    "                 shoal bench ranks MODEL --ranks 4 --only-rank 1 \\\n"
    "                   --link emulated:10gbe\n";

void add_bench_lengths(CLI::App& command, BenchRanksArguments& arguments) {
  constexpr int64_t kMost = int64_t{1} << 31;
  const auto number = [&](const char* flags, int64_t& value, int64_t least, int64_t most,
                          const char* description) {
    command.add_option(flags, value, description)
        ->check(CLI::Range(least, most))
        ->option_text("N")
        ->group("What is measured");
  };
  number("--prompt-tokens,-p", arguments.prompt_tokens, 1, kMost, "Length of the prompt (512)");
  number("--output-tokens", arguments.output_tokens, 1, kMost, "Tokens to decode, also -n (64)");
  number("--batch", arguments.batch, 1, 64, "Sequences that decode at once (1)");
  number("--context,-c", arguments.context, 0, kMost, "Tokens in their cache before (0)");
  number("--repeat", arguments.repeat, 1, 1000, "Runs, of which the median counts (3)");
  command.add_flag("--alone", arguments.alone, "Leave out what the ranks are compared with")
      ->group("What is measured");
}

void add_bench_ranks(CLI::App& bench, BenchRanksArguments& arguments) {
  CLI::App* command = bench.add_subcommand(
      "ranks", "What several ranks of a model gain, on this machine or with others");
  command->footer(kBenchRanksExamples);
  command->add_option("model", arguments.model, "A model on disk, or the path of a GGUF")
      ->required()
      ->option_text("MODEL");
  const auto option = [&](const char* flag, auto& value, const char* text, const char* group,
                          const char* description) {
    return command->add_option(flag, value, description)->option_text(text)->group(group);
  };
  constexpr const char* kRanks = "Ranks";
  auto* const ranks = option("--ranks", arguments.ranks, "N", kRanks, "How many (2)");
  auto* const mode =
      option("--mode", arguments.mode, "NAME", kRanks, "tensor (default), pipeline or hybrid");
  auto* const parts = option("--parts", arguments.parts, "A:B...", kRanks,
                             "What each gets, such as 2:1 (all the same)");
  auto* const payload = option("--payload", arguments.payload, "NAME", kRanks,
                               "Of their numbers: f32 (default), bf16, int8");
  option("--plan", arguments.plan_path, "FILE", kRanks, "A plan's ranks, cuts and payload instead")
      ->excludes(ranks)
      ->excludes(mode)
      ->excludes(parts)
      ->excludes(payload);
  option("--only-rank", arguments.only_rank, "K", kRanks, "Run this one; the others are imagined");
  command->add_flag("--pin", arguments.pin, "Give each rank cores of its own")->group(kRanks);
  constexpr const char* kBetween = "Between them";
  option("--link", arguments.link, "NAME", kBetween,
         "shm (default), tcp (with TLS; with --at the\n"
         "default), plain (TCP without), verbs (RDMA),\n"
         "emulated:NAME, such as 1gbe or tb5-rdma");
  command->add_flag("--netns", arguments.netns, "A network namespace for each rank (root)")
      ->group(kBetween);
  option("--rate", arguments.rate, "RATE", kBetween, "Of each rank's link there, such as 1gbit");
  constexpr const char* kMachines = "Other machines";
  option("--listen", arguments.listen, "ADDR:PORT", kMachines,
         "Print a code for this address of this machine\n"
         "and run a rank for whoever has the code");
  option("--at", arguments.at, "CODE,...", kMachines,
         "Codes of machines that listen: a rank on\n"
         "each, and rank 0 on this one");
  add_bench_lengths(*command, arguments);
}

void add_bench(CLI::App& app, Parsed& parsed) {
  BenchArguments& bench = parsed.bench;
  CLI::App* command = app.add_subcommand(
      "bench", "How fast this machine computes a model, and how near to what it can do");
  command->add_option("model", bench.model, "A model on disk, or the path of a GGUF");
  command->add_option("--prompt-tokens,-p", bench.prompt_tokens,
                      "Lengths of prompts, such as 128,512 (default 512)");
  command->add_option("--output-tokens", bench.output_tokens,
                      "How many tokens to decode, likewise (default 64)");
  command->add_option("--batch", bench.batches,
                      "How many sequences decode at once, likewise (default 1)");
  command->add_option("--context,-c", bench.contexts,
                      "Tokens in the cache before decoding, likewise (default 0)");
  command->add_option("--repeat", bench.repeat, "Runs, of which the median counts (default 3)")
      ->check(CLI::Range(1, 1000));
  command->add_flag("--profile", bench.profile, "Show where the time goes, part by part");
  add_bench_links(*command, parsed.bench_links);
  add_bench_ranks(*command, parsed.bench_ranks);
  // A model, or one of the words: not both, not neither.
  command->callback([command, &bench] {
    const bool word = !command->get_subcommands().empty();
    if (word && !bench.model.empty()) throw CLI::ExtrasError({bench.model});
    if (!word && bench.model.empty()) throw CLI::RequiredError("model");
  });
}

void add_cluster(CLI::App& app, Parsed& parsed) {
  CLI::App* cluster = app.add_subcommand("cluster", "Which machines belong together");
  cluster->require_subcommand(1);
  cluster->add_subcommand("invite", "Print a code that lets one machine join, for ten minutes");
  cluster->add_subcommand("join", "Join the cluster of the code")
      ->add_option("code", parsed.code)
      ->required();
  cluster->add_subcommand("leave", "Become a cluster of one again");
  cluster->add_subcommand("remove", "Take a node out of the cluster")
      ->add_option("node", parsed.node, "Name or id")
      ->required();
}

void add_commands(CLI::App& app, Parsed& parsed) {
  add_serve(app, parsed);
  add_run(app, parsed);
  app.add_subcommand("pull", "Download a model")->add_option("model", parsed.model)->required();
  app.add_subcommand("list", "Models on disk")
      ->add_flag("--catalogue", parsed.catalogue, "Those that can be pulled");
  app.add_subcommand("rm", "Delete a model from disk")
      ->add_option("model", parsed.model)
      ->required();
  CLI::App* inspect = app.add_subcommand("inspect", "What a model's file says");
  inspect->add_option("model", parsed.model, "Name or path")->required();
  inspect->add_flag("--card", parsed.card, "Only what placement needs, as JSON");
  CLI::App* plan = app.add_subcommand(
      "plan", "What each plan would give and need, and why the others were refused");
  add_placing(plan, parsed.plan);
  plan->add_option("--topology", parsed.plan.topology_path,
                   "Plan for the nodes and links of this file instead; needs no daemon");
  add_placing(app.add_subcommand("place", "Place a model and leave it running"), parsed.plan);
  app.add_subcommand("ps", "Models that run");
  app.add_subcommand("stop", "Stop a model that runs")
      ->add_option("model", parsed.model)
      ->required();
  app.add_subcommand("nodes", "The nodes of the cluster and the links between them");
  app.add_subcommand("links",
                     "The measured links; with --json nodes and links, as `plan --topology` reads");
  app.add_subcommand("status", "This node");
  add_cluster(app, parsed);
  add_bench(app, parsed);
  CLI::App* perplexity = app.add_subcommand("perplexity", "How well a model predicts a text");
  perplexity->add_option("model", parsed.model)->required();
  perplexity->add_option("file", parsed.file)->required();
  CLI::App* tokenize = app.add_subcommand("tokenize", "Token ids of a text (or of standard input)");
  tokenize->add_option("model", parsed.model)->required();
  tokenize->add_option("text", parsed.text);
  app.add_subcommand("worker", "Runs a shard; started by the daemon")->group("");
}

int serve_command(Parsed& parsed) {
  serve::ServeOptions& options = parsed.serve;
  options.home = parsed.common.home;
  options.threads = parsed.common.threads;
  options.isa = parsed.common.isa;
  options.quiet = parsed.common.quiet;
  options.api_key = parsed.common.api_key;
  if (!parsed.memory.empty()) {
    const Result<uint64_t> bytes = parse_bytes(parsed.memory);
    if (!bytes) return report(parsed.common, bytes.error());
    options.memory_bytes = *bytes;
  }
  return serve::serve_main(options);
}

int dispatch(const CLI::App& app, Parsed& parsed) {
  const CLI::App* command = app.get_subcommands().front();
  const std::string name = command->get_name();
  const Common& common = parsed.common;
  if (name == "serve") return serve_command(parsed);
  if (name == "run") return run_model(common, parsed.run);
  if (name == "pull") return pull_command(common, parsed.model);
  if (name == "list") return list_command(common, parsed.catalogue);
  if (name == "rm") return rm_command(common, parsed.model);
  if (name == "inspect") return inspect_model_command(common, parsed.model, parsed.card);
  if (name == "plan") return plan_command(common, parsed.plan);
  if (name == "place") return place_command(common, parsed.plan);
  if (name == "ps") return ps_command(common);
  if (name == "stop") return stop_command(common, parsed.model);
  if (name == "nodes") return nodes_command(common);
  if (name == "links") return links_command(common);
  if (name == "status") return status_command(common);
  if (name == "bench") {
    if (command->got_subcommand("ranks")) return bench_ranks_command(common, parsed.bench_ranks);
    if (command->got_subcommand("links")) return bench_links_command(common, parsed.bench_links);
    return bench_command(common, parsed.bench);
  }
  if (name == "perplexity") return perplexity_command(common, parsed.model, parsed.file);
  if (name == "tokenize") {
    const bool given = command->get_option("text")->count() > 0;
    return tokenize_command(common, parsed.model,
                            given ? std::optional(parsed.text) : std::nullopt);
  }
  SHOAL_CHECK(name == "cluster");
  const std::string verb = command->get_subcommands().front()->get_name();
  if (verb == "invite") return invite_command(common);
  if (verb == "join") return join_command(common, parsed.code);
  if (verb == "leave") return leave_command(common);
  return remove_command(common, parsed.node);
}

}  // namespace

int report(const Common& common, const Error& error) {
  if (common.json) {
    std::cout << dump_json(error_json(error)) << '\n';
  }
  if (error.code != ErrorCode::kCancelled) fmt::print(stderr, "shoal: {}\n", error.message);
  return exit_code(error.code);
}

int run_command_line(int argc, char** argv) {
  if (argc >= 2 && std::string_view(argv[1]) == "worker") return worker_main();
  std::signal(SIGPIPE, SIG_IGN);

  Parsed parsed;
  parsed.common.home = default_home();
  parsed.common.host = environment("SHOAL_HOST");
  parsed.common.isa = environment("SHOAL_ISA");
  parsed.common.api_key = environment("SHOAL_API_KEY");
  CLI::App app{"Shoal runs language models on the machines you own, together.", "shoal"};
  app.set_version_flag("--version", "shoal " SHOAL_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  add_common_flags(app, parsed.common);
  add_commands(app, parsed);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error, argc, argv);
  }
  if (const Result<Isa> isa = choose_isa(parsed.common.isa); !isa)
    return report(parsed.common, isa.error());
  return dispatch(app, parsed);
}

}  // namespace shoal::cli
