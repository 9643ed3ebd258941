// Any bytes as a file whose vocabulary is read: what is accepted must encode any text to ids of the
// vocabulary, and decode them, at once and in a stream, to the same text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace {

using namespace shoal;

void must(bool condition) {
  if (!condition) std::abort();
}

void check(const Tokenizer& tokenizer, std::string_view text, bool parse_special) {
  const auto ids = tokenizer.encode(text, parse_special);
  if (!ids) return;
  Detokenizer stream(tokenizer, /*begins_text=*/true);
  std::string streamed;
  for (const int32_t id : *ids) {
    must(id >= 0 && id < tokenizer.vocabulary_size());
    const std::string piece = stream.add(id);
    must(is_utf8(piece));
    streamed += piece;
  }
  streamed += stream.finish();
  must(streamed == tokenizer.decode(*ids));
  must(is_utf8(tokenizer.decode(*ids, /*show_special=*/true)));
}

void run(const uint8_t* data, size_t size) {
  const auto file = gguf::File::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf");
  if (!file) return;
  const auto tokenizer = Tokenizer::from_gguf(*file);
  if (!tokenizer) {
    must(!tokenizer.error().message.empty());
    return;
  }
  for (const int32_t end : tokenizer->end_tokens()) {
    must(end >= 0 && end < tokenizer->vocabulary_size());
  }
  // The file's own bytes have its tokens' texts in them.
  const std::string own =
      replace_invalid_utf8({reinterpret_cast<const char*>(data), std::min<size_t>(size, 512)});
  for (const std::string_view text :
       {std::string_view(""),
        std::string_view("ab  abc\n\n1234 it's <s>\u00E9\u4E16\u2581\x01 </s>"),
        std::string_view(own)}) {
    check(*tokenizer, text, true);
    check(*tokenizer, text, false);
  }
  for (int32_t id = -1; id <= std::min<int64_t>(tokenizer->vocabulary_size(), 300); ++id) {
    (void)tokenizer->token_bytes(id, true);
  }
}

}  // namespace

// On a thread of its own: the library keeps the words that it merged until their thread ends, and
// an input that leaves memory behind costs a search for leaks, fifty times the input's own work.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::thread(run, data, size).join();
  return 0;
}
