#include "supervise/fields.h"
#include "supervise/protocol.h"

namespace shoal {
namespace {

// JSON that reaches a template as it is, of the one type that templates expect there.
Status take_json(Fields<OrderedJson>& fields, const char* name, bool array, OrderedJson& value) {
  SHOAL_ASSIGN(const OrderedJson* found, fields.member(name));
  if (array ? !found->is_array() : !found->is_object()) return fields.wrong_type(name);
  value = *found;
  return {};
}

Status check_tokens(const std::vector<int32_t>& tokens, const char* name) {
  for (const int32_t token : tokens) {
    if (token >= 0) continue;
    return fail(ErrorCode::kInvalidArgument, "request: the field '{}' holds the negative token {}",
                name, token);
  }
  return {};
}

}  // namespace

OrderedJson to_json(const GenerateRequest& request) {
  OrderedJson json;
  json["model"] = request.model;
  json["chat"] = request.chat;
  json["messages"] = request.messages;
  json["tools"] = request.tools;
  json["template_arguments"] = request.template_arguments;
  json["prompt"] = request.prompt;
  json["prompt_tokens"] = request.prompt_tokens;
  json["echo"] = request.echo;
  json["max_tokens"] = request.max_tokens;
  json["sampling"] = OrderedJson(to_json(request.sampling));
  json["sampling_named"] = request.sampling_named;
  json["stop"] = request.stop;
  json["stop_tokens"] = request.stop_tokens;
  json["ignore_end"] = request.ignore_end;
  return json;
}

Result<GenerateRequest> generate_request_from_json(const OrderedJson& json) {
  Fields<OrderedJson> fields(json, "request");
  GenerateRequest request;
  SHOAL_TRY(fields.take("model", request.model));
  SHOAL_TRY(fields.take("chat", request.chat));
  SHOAL_TRY(take_json(fields, "messages", true, request.messages));
  SHOAL_TRY(take_json(fields, "tools", true, request.tools));
  SHOAL_TRY(take_json(fields, "template_arguments", false, request.template_arguments));
  SHOAL_TRY(fields.take("prompt", request.prompt));
  SHOAL_TRY(fields.take_list("prompt_tokens", request.prompt_tokens));
  SHOAL_TRY(check_tokens(request.prompt_tokens, "prompt_tokens"));
  SHOAL_TRY(fields.take("echo", request.echo));
  SHOAL_TRY(fields.take_from("max_tokens", int64_t{-1}, request.max_tokens));
  SHOAL_ASSIGN(const OrderedJson* sampling, fields.member("sampling"));
  auto parameters = sampling_from_json(Json(*sampling), 0);
  if (!parameters) return std::unexpected(parameters.error().within("request: sampling"));
  request.sampling = *parameters;
  SHOAL_TRY(fields.take_list("sampling_named", request.sampling_named));
  SHOAL_TRY(fields.take_list("stop", request.stop));
  SHOAL_TRY(fields.take_list("stop_tokens", request.stop_tokens));
  SHOAL_TRY(check_tokens(request.stop_tokens, "stop_tokens"));
  SHOAL_TRY(fields.take("ignore_end", request.ignore_end));
  SHOAL_TRY(fields.finish());
  return request;
}

}  // namespace shoal
