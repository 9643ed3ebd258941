// Writes the fuzzer's first inputs into a folder: a file of every metadata type, small models of
// every variant, and broken ones.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "../unit/models/tiny_llama.h"

namespace {

using shoal::TinyLlama;
using shoal::gguf::GgufWriter;

void write(const std::filesystem::path& folder, const char* name, const std::string& bytes) {
  std::ofstream(folder / name, std::ios::binary) << bytes;
}

std::string every_type() {
  GgufWriter writer(2);
  writer.add("u8", uint8_t{1})
      .add("i8", int8_t{-1})
      .add("u16", uint16_t{2})
      .add("i16", int16_t{-2})
      .add("u32", 3u)
      .add("i32", -3);
  writer.add("f32", 1.5f)
      .add("bool", true)
      .add("text", "text")
      .add("u64", uint64_t{4})
      .add("i64", int64_t{-4})
      .add("f64", 2.5);
  writer.add_strings("texts", {"a", "", "bcd"})
      .add_array<bool>("bools", {true, false})
      .add_array<double>("doubles", {0.5});
  writer.add_array<uint16_t>("shorts", {1, 2, 3}).add("general.alignment", 8u);
  return writer.finish();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: gguf_seeds FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder(argv[1]);
  std::filesystem::create_directories(folder);
  // The smallest shapes that are models: what is mutated should be structure, not weights.
  const TinyLlama tiny{
      .layers = 1, .hidden = 4, .feed_forward = 4, .heads = 2, .kv_heads = 1, .vocabulary = 3};
  write(folder, "types", every_type());
  write(folder, "tiny", tiny.bytes());
  TinyLlama variant = tiny;
  variant.tied = variant.rope_factors = variant.biases = true;
  variant.key_length = 4;
  variant.more = [](GgufWriter& writer) {
    writer.add("llama.rope.scaling.type", "linear")
        .add("llama.rope.scaling.factor", 2.0f)
        .add("llama.rope.freq_base", 1e6f);
    writer.add("llama.rope.dimension_count", 4u)
        .add("llama.attention.sliding_window", 512u)
        .add("llama.expert_count", 0u);
    writer.add_strings("tokenizer.ggml.tokens", {"a", "b", "c"});
  };
  write(folder, "variant", variant.bytes());
  TinyLlama quantised{
      .layers = 1, .hidden = 32, .feed_forward = 64, .heads = 2, .kv_heads = 2, .vocabulary = 2};
  quantised.matrix_type = 2;
  write(folder, "quantised", quantised.bytes());
  TinyLlama cut = tiny;
  cut.more = [](GgufWriter& writer) {
    writer.add("split.count", uint16_t{2}).add("split.no", uint16_t{0});
  };
  write(folder, "split", cut.bytes());
  TinyLlama layers = tiny;
  layers.without = {"llama.feed_forward_length"};
  layers.more = [](GgufWriter& writer) {
    writer.add_array<int32_t>("llama.feed_forward_length", {4});
  };
  write(folder, "per_layer", layers.bytes());
  return 0;
}
