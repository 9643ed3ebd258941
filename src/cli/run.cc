// `shoal run`: one answer, or a chat.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/chat_input.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/plan_text.h"
#include "cli/sampler_text.h"
#include "sampling/defaults.h"

extern char** environ;

namespace shoal::cli {
namespace {

// A daemon of our own, when none runs: it ends with us, because it reads the pipe that we hold.
class OwnDaemon {
 public:
  static Result<std::unique_ptr<OwnDaemon>> start(const Common& common);
  ~OwnDaemon() {
    pipe_.reset();
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  }

 private:
  UniqueFd pipe_;
  pid_t pid_ = -1;
};

Result<std::unique_ptr<OwnDaemon>> OwnDaemon::start(const Common& common) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make", "a pipe");
  auto daemon = std::make_unique<OwnDaemon>();
  daemon->pipe_ = UniqueFd(ends[1]);
  UniqueFd reading(ends[0]);

  std::vector<std::string> words = {"/proc/self/exe",   "serve",      "--ephemeral", "--quiet",
                                    "--home",           common.home,  "--listen",    "127.0.0.1:0",
                                    "--cluster-listen", "127.0.0.1:0"};
  if (common.threads > 0) words.insert(words.end(), {"--threads", std::to_string(common.threads)});
  if (!common.isa.empty()) words.insert(words.end(), {"--isa", common.isa});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, reading.get(), STDIN_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawnattr_t attributes;  // a group of its own: Ctrl-C is for us
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  const int error =
      ::posix_spawn(&daemon->pid_, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    errno = error;
    return system_error("cannot start", "a daemon");
  }

  Client client = common.client();
  const Deadline deadline = Clock::now() + std::chrono::seconds(20);
  while (Clock::now() < deadline) {
    if (client.get("/admin/status")) return daemon;
    int status = 0;
    if (::waitpid(daemon->pid_, &status, WNOHANG) == daemon->pid_) {
      daemon->pid_ = -1;
      return fail(ErrorCode::kUnreachable,
                  "the daemon that was started for this run ended at once; it says why above");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return fail(ErrorCode::kDeadline,
              "the daemon that was started for this run did not answer within 20 s");
}

constexpr int kTracedCandidates = 5;  // as many as 80 columns can hold

struct Asked {
  Json body;
  bool chat;
};

Asked request_of(const Common& common, const RunArguments& arguments, const Json& messages,
                 const std::string& prompt, bool chat) {
  Json body = {{"model", model_for_daemon(arguments.model)},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  if (chat) {
    body["messages"] = messages;
  } else {
    body["prompt"] = prompt;
  }
  if (common.max_tokens >= 0) body["max_tokens"] = common.max_tokens;
  if (!chat && common.max_tokens < 0) body["max_tokens"] = 256;
  if (common.seed) body["seed"] = *common.seed;
  if (common.temperature) body["temperature"] = *common.temperature;
  body.update(arguments.sampling);
  if (arguments.verbose) body["sampler_trace"] = kTracedCandidates;
  if (!arguments.stop.empty()) body["stop"] = arguments.stop;
  return {std::move(body), chat};
}

struct Answered {
  std::string text;
  std::string finish_reason;
  Json usage;
  Json timings;
  double first_token_s = 0;
  Json samplers = Json::array();  // with --verbose: what each left, for every token
  Json sampling_defaults;         // with --verbose: what the model's recommendations set
};

void take_samplers(const Json& choice, bool show, Answered& answered) {
  if (choice.contains("sampling_defaults")) {
    answered.sampling_defaults = choice["sampling_defaults"];
    const auto defaults = sampling_defaults_from_json(answered.sampling_defaults);
    if (show && defaults && !defaults->empty())
      fmt::print(stderr, "as recommended: {}\n", sampling_defaults_text(*defaults));
  }
  if (!choice.contains("samplers") || !choice["samplers"].is_array()) return;
  for (const Json& stages : choice["samplers"]) {
    if (show)
      fmt::print(stderr, "{}",
                 sampler_lines(static_cast<int64_t>(answered.samplers.size()), stages));
    answered.samplers.push_back(stages);
  }
}

// Reads the server-sent events of one answer; shows text as it comes unless `silent`. With
// --verbose the samplers are shown as they come and the text in one piece at the end.
Result<Answered> ask(Client& client, const Asked& asked, bool silent) {
  Answered answered;
  std::optional<Error> error;
  const auto start = Clock::now();
  const auto on_line = [&](std::string_view line) {
    if (!line.starts_with("data: ") || line == "data: [DONE]") return;
    const Result<Json> event = parse_json(line.substr(6));
    if (!event) return;
    if (const auto said = error_from_json(*event)) {
      error = said;
      return;
    }
    if (event->contains("usage") && (*event)["usage"].is_object())
      answered.usage = (*event)["usage"];
    if (event->contains("timings")) answered.timings = (*event)["timings"];
    if (!event->contains("choices") || (*event)["choices"].empty()) return;
    const Json& choice = (*event)["choices"][0];
    if (choice.contains("finish_reason") && choice["finish_reason"].is_string())
      answered.finish_reason = choice["finish_reason"];
    take_samplers(choice, !silent, answered);
    std::string piece = asked.chat ? "" : choice.value("text", "");
    if (asked.chat && choice["delta"].contains("content") && choice["delta"]["content"].is_string())
      piece = choice["delta"]["content"];
    if (piece.empty()) return;
    if (answered.text.empty()) answered.first_token_s = seconds_since(start);
    answered.text += piece;
    if (!silent && answered.samplers.empty()) {
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    }
  };
  const Status status =
      client.stream(asked.chat ? "/v1/chat/completions" : "/v1/completions", asked.body, on_line);
  if (!silent && !answered.samplers.empty())
    std::fwrite(answered.text.data(), 1, answered.text.size(), stdout);
  if (!silent && !answered.text.empty() && answered.text.back() != '\n') std::fputc('\n', stdout);
  if (!status) return std::unexpected(status.error());
  if (error) return std::unexpected(*error);
  return answered;
}

Json measurements(const Answered& answered) {
  Json json = {{"time_to_first_token_s", answered.first_token_s}};
  for (const char* name : {"prompt_tokens", "completion_tokens"}) {
    if (answered.usage.is_object() && answered.usage.contains(name))
      json[name] = answered.usage[name];
  }
  if (json.contains("completion_tokens")) {
    json["output_tokens"] = json["completion_tokens"];
    json.erase("completion_tokens");
  }
  if (answered.timings.is_object()) {
    json["prefill_tokens_per_s"] = answered.timings.value("prompt_per_second", 0.0);
    json["decode_tokens_per_s"] = answered.timings.value("predicted_per_second", 0.0);
  }
  return json;
}

void show_measurements(const Common& common, const Json& instance, const Answered& answered) {
  if (common.quiet) return;
  const Json m = measurements(answered);
  if (instance.is_object()) fmt::print(stderr, "\n{}", plan_line(instance));
  fmt::print(stderr, "first token {}, prefill {:.0f} tokens/s ({}), decode {:.1f} tokens/s ({})\n",
             format_duration(m.value("time_to_first_token_s", 0.0)),
             m.value("prefill_tokens_per_s", 0.0), m.value("prompt_tokens", 0),
             m.value("decode_tokens_per_s", 0.0), m.value("output_tokens", 0));
}

class Session {
 public:
  Session(const Common& common, const RunArguments& arguments, Json instance)
      : common_(common),
        arguments_(arguments),
        client_(common.client()),
        instance_(std::move(instance)),
        chat_(!arguments.raw) {
    if (!arguments.system.empty())
      messages_.push_back({{"role", "system"}, {"content", arguments.system}});
  }

  int answer_once(const std::string& prompt) {
    const Result<Answered> answered = exchange(prompt, common_.json);
    if (!answered)
      return report(common_, interrupted() ? Error{ErrorCode::kCancelled, ""} : answered.error());
    if (common_.json) {
      Json result = measurements(*answered);
      result["text"] = answered->text;
      result["finish_reason"] = answered->finish_reason;
      result["model"] = arguments_.model;
      if (arguments_.verbose) {
        result["samplers"] = answered->samplers;
        result["sampling_defaults"] = answered->sampling_defaults;
      }
      if (instance_.is_object()) result["instance"] = instance_;
      fmt::print("{}\n", dump_json(result, 2));
    } else {
      show_measurements(common_, instance_, *answered);
    }
    return 0;
  }

  int converse() {
    ChatInput input(common_.home + "/history");
    fmt::print(stderr,
               "Chat with {}. /bye leaves, /clear forgets; a line ending in \\ or a \"\"\" block "
               "goes on.\n",
               arguments_.model);
    while (true) {
      const std::optional<std::string> line = input.read();
      if (!line) return input.left_by_interrupt() ? exit_code(ErrorCode::kCancelled) : 0;
      if (line->empty()) continue;
      if (*line == "/bye" || *line == "/exit") return 0;
      if (*line == "/clear") {
        while (!messages_.empty() && messages_.back()["role"] != "system")
          messages_.erase(messages_.size() - 1);
        continue;
      }
      const Result<Answered> answered = exchange(*line, false);
      if (interrupted()) {
        fmt::print(stderr, "\n(stopped)\n");
        clear_interrupt();
      } else if (!answered) {
        report(common_, answered.error());
        if (answered.error().code == ErrorCode::kUnreachable && !client_.get("/v1/models"))
          return exit_code(ErrorCode::kUnreachable);
      } else {
        show_measurements(common_, instance_, *answered);
      }
    }
  }

 private:
  // One turn. A turn that failed or was stopped is forgotten, so that the next one starts from what
  // both sides saw.
  Result<Answered> exchange(const std::string& prompt, bool silent) {
    if (chat_) messages_.push_back({{"role", "user"}, {"content", prompt}});
    Result<Answered> answered =
        ask(client_, request_of(common_, arguments_, messages_, prompt, chat_), silent);
    if (chat_ && !answered && answered.error().code == ErrorCode::kUnsupported) {
      if (!common_.quiet)
        fmt::print(stderr, "This model has no chat template: it continues the text instead.\n");
      chat_ = false;
      messages_.clear();
      return ask(client_, request_of(common_, arguments_, messages_, prompt, chat_), silent);
    }
    if (!chat_) return answered;
    if (answered) {
      messages_.push_back({{"role", "assistant"}, {"content", answered->text}});
    } else {
      messages_.erase(messages_.size() - 1);
    }
    return answered;
  }

  const Common& common_;
  const RunArguments& arguments_;
  Client client_;
  Json instance_;
  Json messages_ = Json::array();
  bool chat_;
};

Result<std::string> read_standard_input() {
  std::string text;
  char buffer[65536];
  while (true) {
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR && interrupted())
      return fail(ErrorCode::kCancelled, "interrupted");
    if (got < 0) return system_error("cannot read", "standard input");
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

}  // namespace

int run_model(const Common& common, const RunArguments& arguments) {
  catch_interrupts();
  std::optional<std::string> prompt = arguments.prompt;
  if (!prompt && ::isatty(STDIN_FILENO) == 0) {
    Result<std::string> text = read_standard_input();
    if (!text) return report(common, text.error());
    prompt = std::move(*text);
    if (prompt->empty())
      return report(common,
                    {ErrorCode::kInvalidArgument, "the prompt from standard input is empty"});
  }

  Client client = common.client();
  std::unique_ptr<OwnDaemon> daemon;
  Json instance;
  if (client.over_socket()) {
    if (!client.get("/admin/status")) {
      Result<std::unique_ptr<OwnDaemon>> started = OwnDaemon::start(common);
      if (!started) return report(common, started.error());
      daemon = std::move(*started);
    }
    Result<Json> placed =
        place_model(common, client, {arguments.model, "", arguments.sequences, arguments.nodes});
    if (!placed)
      return report(common, interrupted() ? Error{ErrorCode::kCancelled, ""} : placed.error());
    instance = std::move(*placed);
  }
  Session session(common, arguments, instance);
  return prompt ? session.answer_once(*prompt) : session.converse();
}

}  // namespace shoal::cli
