#include "cli/bench_text.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/counted.h"
#include "base/units.h"

namespace shoal::cli {

namespace {

constexpr double kOperationsPerMultiplyAdd = 2;
constexpr double kWorthALine = 0.0005;  // of the time

double share(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}
double operations(double multiply_adds) {
  return kOperationsPerMultiplyAdd * multiply_adds;
}

// Four digits that count, in at most 7 characters for what a machine can do.
std::string number(double value) {
  const double size = std::abs(value);
  if (size >= 999.95) return fmt::format("{:.0f}", value);
  if (size >= 99.995) return fmt::format("{:.1f}", value);
  return fmt::format("{:.2f}", value);
}
std::string percent(double value) {
  return fmt::format("{:.1f}%", 100 * value);
}
std::string giga(double value) {
  return number(value * 1e-9);
}

double total_seconds(const BenchSpeed& speed) {
  double sum = 0;
  for (const ProfiledPart& part : speed.parts) sum += part.seconds;
  return sum;
}

// --- for people ---

// The file's name and not the one inside, which anyone may have written.
std::string heading(const BenchReport& report) {
  const ModelCard& model = report.model;
  return fmt::format(
      "{}: {}, {}, {}\n"
      "{}, {} thread{}, KV cache {}, medians of {}\n"
      "loaded in {}, {} GB/s; in memory: weights {},\n"
      "  KV cache {}, activations {}\n\n",
      report.file, model.architecture, model.quantisation, format_bytes(model.file_bytes),
      isa_name(report.isa), report.threads, report.threads == 1 ? "" : "s",
      kv_type_name(report.kv_type), report.repeat, format_duration(report.load_s),
      giga(report.load_bytes_per_s), format_bytes(report.memory.weight_bytes),
      format_bytes(report.memory.kv_bytes), format_bytes(report.memory.activation_bytes));
}

std::string results_table(const BenchReport& report) {
  constexpr auto kRow = "{:>6} {:>6} {:>5} {:>7} {:>9} {:>8} {:>7} {:>9} {:>6} {:>8}\n";
  std::string text = fmt::format(kRow, "prompt", "output", "batch", "context", "prefill", "Gop/s",
                                 "of peak", "decode", "GB/s", "of probe");
  for (const BenchResult& result : report.results) {
    text += fmt::format(
        kRow, result.prompt_tokens, result.output_tokens, result.batch, result.context,
        number(result.prefill.tokens_per_s), giga(operations(result.prefill.multiply_adds_per_s)),
        percent(share(result.prefill.multiply_adds_per_s, result.peak_multiply_adds_per_s)),
        number(result.decode.tokens_per_s), giga(result.decode.read_bytes_per_s),
        percent(share(result.decode.read_bytes_per_s, result.probe_read_bytes_per_s)));
  }
  return text;
}

std::string limits(const BenchReport& report) {
  double reading = 0, peak = 0;
  for (const BenchResult& result : report.results) {
    reading = std::max(reading, result.probe_read_bytes_per_s);
    peak = std::max(peak, result.peak_multiply_adds_per_s);
  }
  return fmt::format(
      "\nprefill, decode: tokens per second, of all sequences together\n"
      "of peak: {} Gop/s of {} (a multiply-add is two); of probe: {} GB/s\n",
      giga(operations(peak)), report.peak_numbers, giga(reading));
}

std::string profile_table(const BenchSpeed& speed, double peak_multiply_adds_per_s,
                          double probe_read_bytes_per_s) {
  constexpr auto kRow = "  {:<22} {:>9} {:>6} {:>7} {:>8} {:>7} {:>8}\n";
  std::string text =
      fmt::format(kRow, "part", "time", "share", "Gop/s", "of peak", "GB/s", "of probe");
  const double total = total_seconds(speed);
  for (const ProfiledPart& part : speed.parts) {
    if (part.seconds < kWorthALine * total) continue;
    const double multiplied = share(part.multiply_adds, part.seconds);
    const double read = share(part.read_bytes, part.seconds);
    text += fmt::format(
        kRow, part.name, format_duration(part.seconds), percent(share(part.seconds, total)),
        multiplied > 0 ? giga(operations(multiplied)) : "",
        multiplied > 0 ? percent(share(multiplied, peak_multiply_adds_per_s)) : "",
        read > 0 && multiplied > 0 ? giga(read) : "",
        read > 0 && multiplied > 0 ? percent(share(read, probe_read_bytes_per_s)) : "");
    text.erase(text.find_last_not_of(" \n") + 1);
    text += '\n';
  }
  return text;
}

// Each measured prefill and decode once, though several combinations hold it.
std::string profiles(const BenchReport& report) {
  std::string text;
  std::set<std::string> said;
  const auto add = [&](const std::string& title, const BenchSpeed& speed,
                       const BenchResult& result) {
    if (speed.parts.empty() || !said.insert(title).second) return;
    text += '\n' + title + '\n' +
            profile_table(speed, result.peak_multiply_adds_per_s, result.probe_read_bytes_per_s);
  };
  for (const BenchResult& result : report.results)
    add("prefill of " + counted(result.prompt_tokens, "token"), result.prefill, result);
  for (const BenchResult& result : report.results) {
    add(fmt::format("decode of {}, batch {}, context {}", counted(result.output_tokens, "token"),
                    result.batch, result.context),
        result.decode, result);
  }
  return text;
}

// --- for scripts ---

Json profile_json(const BenchSpeed& speed) {
  Json parts = Json::array();
  const double total = total_seconds(speed);
  for (const ProfiledPart& part : speed.parts) {
    parts.push_back({{"part", part.name},
                     {"time_s", part.seconds},
                     {"share", share(part.seconds, total)},
                     {"calls", part.calls},
                     {"operations_per_s", operations(share(part.multiply_adds, part.seconds))},
                     {"read_bytes_per_s", share(part.read_bytes, part.seconds)}});
  }
  return parts;
}

Json result_json(const BenchReport& report, const BenchResult& result) {
  Json json = {{"prompt_tokens", result.prompt_tokens},
               {"output_tokens", result.output_tokens},
               {"batch", result.batch},
               {"context", result.context},
               {"threads", report.threads},
               {"ranks", 1},
               {"isa", isa_name(report.isa)},
               {"link", nullptr},
               {"prefill_tokens_per_s", result.prefill.tokens_per_s},
               {"prefill_operations_per_s", operations(result.prefill.multiply_adds_per_s)},
               {"peak_operations_per_s", operations(result.peak_multiply_adds_per_s)},
               {"decode_tokens_per_s", result.decode.tokens_per_s},
               {"decode_bytes_per_s", result.decode.read_bytes_per_s},
               {"read_bytes_per_s", result.probe_read_bytes_per_s}};
  json["prefill_s_of_runs"] = result.prefill.run_seconds;
  json["decode_s_of_runs"] = result.decode.run_seconds;
  if (!result.prefill.parts.empty() || !result.decode.parts.empty()) {
    json["profile"] = {{"prefill", profile_json(result.prefill)},
                       {"decode", profile_json(result.decode)}};
  }
  return json;
}

}  // namespace

std::string to_text(const BenchReport& report) {
  return heading(report) + results_table(report) + limits(report) + profiles(report);
}

Json to_json(const BenchReport& report) {
  Json results = Json::array();
  for (const BenchResult& result : report.results) results.push_back(result_json(report, result));
  return {{"model", report.file},
          {"name", report.model.name},
          {"architecture", report.model.architecture},
          {"quantisation", report.model.quantisation},
          {"parameter_count", report.model.parameter_count},
          {"file_bytes", report.model.file_bytes},
          {"kv_type", kv_type_name(report.kv_type)},
          {"repeat", report.repeat},
          {"load_s", report.load_s},
          {"load_bytes_per_s", report.load_bytes_per_s},
          {"weight_bytes", report.memory.weight_bytes},
          {"kv_bytes", report.memory.kv_bytes},
          {"activation_bytes", report.memory.activation_bytes},
          {"peak_numbers", report.peak_numbers},
          {"results", std::move(results)}};
}

}  // namespace shoal::cli
