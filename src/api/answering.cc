#include "api/answering.h"

#include <ctime>

#include "api/answer.h"
#include "base/bytes.h"

namespace shoal::api {
namespace {

// The streams under way, shared with the callback that ends them when the client leaves.
struct Underway {
  std::vector<std::unique_ptr<EventStream>> streams;  // one for each choice
  bool client_gone = false;

  void cancel() {
    client_gone = true;
    for (const auto& stream : streams) stream->cancel();
  }
};

class Answering {
 public:
  Answering(ApiBackend& backend, http::Exchange& exchange, Question question)
      : backend_(backend),
        exchange_(exchange),
        question_(std::move(question)),
        shape_(question_, to_hex(random_bytes(12)), static_cast<int64_t>(std::time(nullptr))) {}

  asio::awaitable<void> run() {
    exchange_.on_client_gone([weak = std::weak_ptr(underway_)] {
      if (const auto underway = weak.lock()) underway->cancel();
    });
    const Outcome<void> begun = co_await begin();
    if (underway_->client_gone) co_return;
    if (!begun) {
      co_await refuse(begun.error());
    } else if (question_.stream) {
      co_await stream_answer();
    } else {
      co_await whole_answer();
    }
  }

 private:
  // Until every choice is accepted: what fails before that has a status of its own.
  asio::awaitable<Outcome<void>> begin() {
    for (GenerateRequest& request : question_.choices) {
      auto stream = co_await backend_.start(std::move(request));
      if (!stream) co_return std::unexpected(start_error(stream.error(), question_.model));
      underway_->streams.push_back(std::move(*stream));
      if (underway_->client_gone) {
        underway_->cancel();
        co_return Outcome<void>();
      }
    }
    for (size_t i = 0; i < underway_->streams.size(); ++i) {
      Event event = co_await underway_->streams[i]->next();
      if (event.kind == Event::Kind::kError) {
        co_return std::unexpected(start_error(event.error, question_.model));
      }
      if (event.kind != Event::Kind::kAccepted) co_return std::unexpected(out_of_order());
      if (i % question_.choices_per_prompt == 0) usage_.prompt_tokens += event.prompt_tokens;
      accepted_.push_back(std::move(event));
    }
    co_return Outcome<void>();
  }

  static ApiError out_of_order() {
    return {500, "the worker answered out of order", "", std::string("internal"), ""};
  }

  asio::awaitable<void> refuse(ApiError error) {
    http::Response response = error_response(error);
    co_await exchange_.respond(std::move(response));
  }

  Choice begin_choice(size_t index) {
    Choice choice;
    choice.text = std::move(accepted_[index].prompt_text);
    choice.logprobs = std::move(accepted_[index].prompt_logprobs);
    return choice;
  }

  // With the first token's go the recommendations that were followed.
  void take_samplers(Event& event, size_t index, Choice& choice) {
    if (event.samplers.empty()) return;
    choice.samplers.push_back(std::move(event.samplers));
    if (event.number == 0) choice.sampling_defaults = std::move(accepted_[index].sampling_defaults);
  }

  const Timings* timings_of(const Event& done) const {
    return underway_->streams.size() == 1 ? &done.timings : nullptr;
  }

  asio::awaitable<void> whole_answer() {
    std::vector<Choice> choices;
    Event done;
    for (size_t i = 0; i < underway_->streams.size(); ++i) {
      Choice choice = begin_choice(i);
      while (true) {
        Event event = co_await underway_->streams[i]->next();
        if (underway_->client_gone) co_return;
        if (event.kind == Event::Kind::kError) {
          co_await refuse(api_error(event.error));
          co_return;
        }
        if (event.kind == Event::Kind::kDone) {
          choice.finish_reason = event.finish_reason;
          done = std::move(event);
          break;
        }
        ++usage_.completion_tokens;
        choice.text += event.text;
        if (event.logprob) choice.logprobs.push_back(std::move(*event.logprob));
        take_samplers(event, i, choice);
      }
      choices.push_back(std::move(choice));
    }
    http::Response response = json_response(200, shape_.whole(choices, usage_, timings_of(done)));
    co_await exchange_.respond(std::move(response));
  }

  asio::awaitable<bool> send(OrderedJson json) {
    const std::string line = "data: " + dump_json(json) + "\n\n";
    const bool sent = co_await exchange_.write(line);
    co_return sent && !underway_->client_gone;
  }

  asio::awaitable<void> stream_answer() {
    http::Headers headers;
    headers["Content-Type"] = "text/event-stream";
    headers["Cache-Control"] = "no-cache";
    co_await exchange_.begin(200, std::move(headers));
    for (size_t i = 0; i < underway_->streams.size(); ++i) {
      const bool complete = co_await stream_choice(i);
      if (!complete) {
        underway_->cancel();
        co_await exchange_.end();
        co_return;
      }
    }
    if (question_.include_usage) co_await send(shape_.usage_chunk(usage_));
    co_await exchange_.write("data: [DONE]\n\n");
    co_await exchange_.end();
  }

  // False: nothing more is to be sent.
  asio::awaitable<bool> stream_choice(size_t index) {
    const Choice start = begin_choice(index);
    int64_t characters = 0;
    if (question_.chat) {
      if (!co_await send(shape_.first_chunk(index))) co_return false;
    } else if (!start.text.empty() || !start.logprobs.empty()) {
      if (!co_await send(shape_.text_chunk(index, start, 0))) co_return false;
      characters = character_count(start.text);
    }
    while (true) {
      Event event = co_await underway_->streams[index]->next();
      if (underway_->client_gone) co_return false;
      if (event.kind == Event::Kind::kError) {
        co_await send(error_json(api_error(event.error)));
        co_return false;
      }
      if (event.kind == Event::Kind::kDone) {
        co_return co_await send(shape_.last_chunk(index, event.finish_reason, timings_of(event)));
      }
      ++usage_.completion_tokens;
      Choice piece;
      piece.text = std::move(event.text);
      if (event.logprob) piece.logprobs.push_back(std::move(*event.logprob));
      take_samplers(event, index, piece);
      if (piece.text.empty() && piece.logprobs.empty() && piece.samplers.empty()) continue;
      const int64_t before = characters;
      for (const TokenLogprob& token : piece.logprobs) characters += character_count(token.bytes);
      if (!co_await send(shape_.text_chunk(index, piece, before))) co_return false;
    }
  }

  ApiBackend& backend_;
  http::Exchange& exchange_;
  Question question_;
  AnswerShape shape_;
  std::shared_ptr<Underway> underway_ = std::make_shared<Underway>();
  std::vector<Event> accepted_;
  Usage usage_;
};

}  // namespace

asio::awaitable<void> answer_question(ApiBackend& backend, http::Exchange& exchange,
                                      Question question) {
  Answering answering(backend, exchange, std::move(question));
  co_await answering.run();
}

}  // namespace shoal::api
