#include "chat/chat_template.h"

#include <array>
#include <chrono>

#include "chat/default_template.h"
#include "shoal_bridge.h"

namespace shoal {
namespace {

constexpr std::array<std::string_view, 3> kOwnVariables = {"messages", "tools",
                                                           "add_generation_prompt"};

ShoalSlice slice_of(std::string_view text) {
  return {text.data(), text.size()};
}

std::string taken(ShoalText text) {
  std::string copy(text.data, text.size);
  shoal_text_free(text);
  return copy;
}

std::unexpected<Error> render_error(ShoalStatus status, const std::string& words) {
  switch (status) {
    case SHOAL_RAISED:
      return fail(ErrorCode::kInvalidArgument,
                  "the model's chat template refuses these messages: {}", words);
    case SHOAL_LIMIT:
      return fail(ErrorCode::kUnsupported, "the model's chat template was stopped: {}", words);
    case SHOAL_FAILED:
      return fail(ErrorCode::kInvalidArgument,
                  "the model's chat template cannot render these messages: {}", words);
    case SHOAL_SYNTAX:
      return fail(ErrorCode::kCorrupt, "the model's chat template does not parse: {}", words);
    case SHOAL_INVALID:
      return fail(ErrorCode::kInvalidArgument, "{}", words);
    default:
      return fail(ErrorCode::kInternal, "the chat template could not be rendered: {}", words);
  }
}

// The text of the token whose id `key` holds; empty when the file names none.
Result<std::string> token_text(const gguf::File& file, const std::vector<std::string_view>& tokens,
                               std::string_view key) {
  if (!file.find(key)) return std::string();
  SHOAL_ASSIGN(const int64_t id, file.integer(key));
  if (id < 0 || id >= static_cast<int64_t>(tokens.size())) {
    return fail(ErrorCode::kCorrupt, "{}: {} is {}, and the vocabulary has {} tokens", file.path(),
                key, id, tokens.size());
  }
  return std::string(tokens[static_cast<size_t>(id)]);
}

Status check_messages(const OrderedJson& messages) {
  if (!messages.is_array()) return fail(ErrorCode::kInvalidArgument, "messages must be a list");
  for (size_t index = 0; index < messages.size(); ++index) {
    if (!messages[index].is_object()) {
      return fail(ErrorCode::kInvalidArgument,
                  "message {} must be an object with a role and content", index);
    }
  }
  return {};
}

}  // namespace

struct ChatTemplate::State {
  std::string source;
  std::string bos_text;
  std::string eos_text;
  std::string default_name;
};

ChatTemplate::ChatTemplate(std::unique_ptr<State> state) : state_(std::move(state)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, std::string bos_text,
                                         std::string eos_text) {
  ShoalText error = {};
  const ShoalStatus status = shoal_template_check(slice_of(source), &error);
  if (status == SHOAL_INTERNAL) return render_error(status, taken(error));
  if (status != SHOAL_OK) return render_error(SHOAL_SYNTAX, taken(error));
  return ChatTemplate(std::make_unique<State>(
      State{std::string(source), std::move(bos_text), std::move(eos_text), {}}));
}

Result<std::optional<ChatTemplate>> ChatTemplate::from_gguf(const gguf::File& file) {
  std::vector<std::string_view> tokens;
  if (file.find("tokenizer.ggml.tokens")) {
    SHOAL_ASSIGN(tokens, file.strings("tokenizer.ggml.tokens"));
  }
  std::string_view source;
  std::optional<DefaultTemplate> otherwise;
  if (file.find("tokenizer.chat_template")) {
    SHOAL_ASSIGN(source, file.string("tokenizer.chat_template"));
  } else {
    otherwise = find_default_template(tokens);
    if (!otherwise) return std::nullopt;
    source = otherwise->source;
  }
  SHOAL_ASSIGN(std::string bos_text, token_text(file, tokens, "tokenizer.ggml.bos_token_id"));
  SHOAL_ASSIGN(std::string eos_text, token_text(file, tokens, "tokenizer.ggml.eos_token_id"));
  auto parsed = parse(source, std::move(bos_text), std::move(eos_text));
  if (!parsed) return std::unexpected(parsed.error().within(file.path()));
  if (otherwise) parsed->state_->default_name = otherwise->name;
  return std::move(*parsed);
}

const std::string& ChatTemplate::default_name() const {
  return state_->default_name;
}

Result<std::string> ChatTemplate::render(const OrderedJson& messages, const OrderedJson& tools,
                                         bool add_generation_prompt,
                                         const OrderedJson& extra) const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t now_unix_s = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  return render_at(now_unix_s, messages, tools, add_generation_prompt, extra);
}

Result<std::string> ChatTemplate::render_at(int64_t now_unix_s, const OrderedJson& messages,
                                            const OrderedJson& tools, bool add_generation_prompt,
                                            const OrderedJson& extra) const {
  SHOAL_TRY(check_messages(messages));
  if (!tools.is_null() && !tools.is_array())
    return fail(ErrorCode::kInvalidArgument, "tools must be a list");
  if (!extra.is_null() && !extra.is_object()) {
    return fail(ErrorCode::kInvalidArgument,
                "the chat template's further variables must be an object");
  }
  OrderedJson context = OrderedJson::object();
  context["messages"] = messages;
  context["tools"] = tools;
  context["documents"] = nullptr;
  context["add_generation_prompt"] = add_generation_prompt;
  // A token that the model lacks is undefined to its template, as it is for Hugging Face.
  if (!state_->bos_text.empty()) context["bos_token"] = state_->bos_text;
  if (!state_->eos_text.empty()) context["eos_token"] = state_->eos_text;
  for (const auto& [name, value] : extra.items()) {
    for (const std::string_view own : kOwnVariables) {
      if (name == own)
        return fail(ErrorCode::kInvalidArgument, "the chat template's variable '{}' cannot be set",
                    name);
    }
    context[name] = value;
  }
  const std::string context_text = dump_json(context);
  ShoalText text = {};
  ShoalText error = {};
  const ShoalStatus status = shoal_template_render(slice_of(state_->source), slice_of(context_text),
                                                   now_unix_s, &text, &error);
  if (status != SHOAL_OK) return render_error(status, taken(error));
  return taken(text);
}

}  // namespace shoal
