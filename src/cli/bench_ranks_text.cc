// The report of `shoal bench ranks`, for people and for scripts.
#include "base/counted.h"
#include "base/units.h"
#include "cli/bench_ranks.h"

namespace shoal::cli {
namespace {

double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

std::string layers_of_rank(const BenchRanksReport& report, const PlannedRank& rank) {
  const Range layers = layers_of(rank.cut, report.model.layer_count);
  return fmt::format("{}-{}", layers.begin, layers.end - 1);
}

std::string link_text(const BenchRanksReport& report) {
  if (report.plan.ranks.size() == 1) return "";
  const std::string_view where = report.namespaces    ? " between network namespaces"
                                 : report.on_machines ? " between machines"
                                                      : "";
  return fmt::format(" ({}) over {}{}, payload {}", plan_mode_name(plan_mode(report.plan)),
                     report.link, where, payload_name(report.plan.payload));
}

std::string heading(const BenchRanksReport& report) {
  const auto ranks = std::ssize(report.plan.ranks);
  return fmt::format(
      "{}: {}, {}, {}\n{}{}\n{}, {}{}{}, {}\n\n", report.file, report.model.architecture,
      report.model.quantisation, format_bytes(report.model.file_bytes), counted(ranks, "rank"),
      link_text(report), isa_name(report.isa), counted(report.threads, "thread"),
      report.on_machines ? " here"
      : ranks > 1        ? " each"
                         : "",
      report.pinned ? ", pinned" : "",
      report.repeat == 1 ? "one run" : fmt::format("medians of {} runs", report.repeat));
}

constexpr auto kSpeedRow = "{:<26} {:>12} {:>12} {:>12} {:>12}\n";

std::string speed_row(std::string_view name, double prefill, double decode,
                      std::string_view prefill_gain = "", std::string_view decode_gain = "") {
  std::string row = fmt::format(kSpeedRow, name, fmt::format("{:.1f}", prefill),
                                fmt::format("{:.2f}", decode), prefill_gain, decode_gain);
  row.erase(row.find_last_not_of(" \n") + 1);
  return row + "\n";
}

std::string compared_row(std::string_view name, const GroupSpeed& other, const GroupSpeed& ranks) {
  const auto gain = [](double a, double b) { return fmt::format("{:.2f}x", ratio(a, b)); };
  return speed_row(name, other.prefill_tokens_per_s, other.decode_tokens_per_s,
                   gain(ranks.prefill_tokens_per_s, other.prefill_tokens_per_s),
                   gain(ranks.decode_tokens_per_s, other.decode_tokens_per_s));
}

std::string speed_table(const BenchRanksReport& report) {
  const std::string ranks = counted(std::ssize(report.plan.ranks), "rank");
  const std::string here = report.on_machines ? " here" : "";
  const std::string cores =
      report.threads == 1 ? "one core" : fmt::format("{} cores", report.threads);
  std::string text =
      fmt::format(kSpeedRow, "tokens per second", "prefill", "decode",
                  report.one_rank ? "prefill gain" : "", report.one_rank ? "decode gain" : "");
  text.erase(text.find_last_not_of(" \n") + 1);
  text += "\n";
  text += speed_row(report.only_rank ? fmt::format("rank {} of {}, alone", *report.only_rank,
                                                   report.plan.ranks.size())
                                     : ranks,
                    report.ranks.prefill_tokens_per_s, report.ranks.decode_tokens_per_s);
  if (report.predicted) {
    text += speed_row("predicted", report.predicted->prefill_tokens_per_s,
                      report.predicted->decode_tokens_per_s);
  }
  if (report.one_rank)
    text += compared_row("one rank on " + cores + here, *report.one_rank, report.ranks);
  if (report.all_cores)
    text += compared_row("one process, all cores" + here, *report.all_cores, report.ranks);
  text += fmt::format("prefill: {} (pp{}); decode: {} of {} (tg{} @ d{})\n\n",
                      counted(report.prompt_tokens, "token"), report.prompt_tokens,
                      counted(report.output_tokens, "token"), counted(report.batch, "sequence"),
                      report.output_tokens, report.context);
  return text;
}

std::string rank_table(const BenchRanksReport& report) {
  constexpr auto kRow = "{:>4} {:>5} {:>7} {:>6} {:>10} {:>9} {:>9} {:>9} {:>12}\n";
  std::string text = fmt::format(kRow, "rank", "stage", "layers", "share", "weights", "compute",
                                 "wait", "sent", "memory peak");
  for (const RankReport& one : report.rank_reports) {
    text += fmt::format(kRow, one.rank, one.planned.stage, layers_of_rank(report, one.planned),
                        fmt::format("{:.0f}%", 100 * one.planned.share),
                        format_bytes(one.stats.weight_bytes), format_duration(one.decode_compute_s),
                        format_duration(one.decode_wait_s),
                        format_bytes(static_cast<uint64_t>(one.decode_bytes_sent)),
                        format_bytes(one.stats.resident_peak_bytes));
  }
  return text + "share, weights: of the model; compute, wait, sent: of one decoding step\n";
}

std::string machine_table(const BenchRanksReport& report) {
  if (!report.on_machines) return "";
  constexpr auto kRow = "{:>4}  {:<24} {:<28} {:>7}  {}\n";
  std::string text = "\n" + fmt::format(kRow, "rank", "machine", "address", "threads", "kernels");
  for (const RankReport& one : report.rank_reports) {
    const MachineFacts& machine = one.machine;
    text += fmt::format(kRow, one.rank, machine.name.substr(0, 24),
                        machine.address.empty() ? "here" : machine.address, machine.threads,
                        machine.isa);
  }
  return text;
}

// What the ranks hold beyond one copy of each weight: the table of a tied model at both ends of a
// pipeline, KV heads where they are too few, norms.
uint64_t replicated_bytes(const BenchRanksReport& report) {
  uint64_t held = 0;
  for (const PlannedRank& rank : report.plan.ranks) held += rank.weight_bytes;
  const uint64_t once = weight_bytes(report.model, whole(report.model));
  return held > once ? held - once : 0;
}

Json speed_json(const GroupSpeed& speed) {
  return {{"prefill_tokens_per_s", speed.prefill_tokens_per_s},
          {"decode_tokens_per_s", speed.decode_tokens_per_s},
          {"prefill_s_of_runs", speed.prefill_s_of_runs},
          {"decode_s_of_runs", speed.decode_s_of_runs}};
}

Json rank_json(const BenchRanksReport& report, size_t rank) {
  const RankReport& one = report.rank_reports[rank];
  const Range layers = layers_of(one.planned.cut, report.model.layer_count);
  return {{"rank", one.rank},
          {"machine", one.machine.name},
          {"address", one.machine.address},
          {"threads", one.machine.threads},
          {"isa", one.machine.isa},
          {"stage", one.planned.stage},
          {"layers", {layers.begin, layers.end}},
          {"share", one.planned.share},
          {"planned_memory_bytes", one.planned.memory_bytes},
          {"weight_bytes", one.stats.weight_bytes},
          {"kv_bytes", one.stats.kv_bytes},
          {"activation_bytes", one.stats.activation_bytes},
          {"resident_peak_bytes", one.stats.resident_peak_bytes},
          {"decode_compute_s_per_step", one.decode_compute_s},
          {"decode_wait_s_per_step", one.decode_wait_s},
          {"decode_bytes_sent_per_step", one.decode_bytes_sent},
          {"bytes_sent", one.stats.bytes_sent},
          {"bytes_received", one.stats.bytes_received}};
}

}  // namespace

std::string to_text(const BenchRanksReport& report) {
  return heading(report) + speed_table(report) + rank_table(report) + machine_table(report);
}

Json to_json(const BenchRanksReport& report) {
  Json json = {{"model", report.file},
               {"architecture", report.model.architecture},
               {"quantisation", report.model.quantisation},
               {"file_bytes", report.model.file_bytes},
               {"replicated_bytes", replicated_bytes(report)},
               {"ranks", report.plan.ranks.size()},
               {"mode", plan_mode_name(plan_mode(report.plan))},
               {"link", report.link},
               {"payload", payload_name(report.plan.payload)},
               {"netns", report.namespaces},
               {"pinned", report.pinned},
               {"threads", report.threads},
               {"isa", isa_name(report.isa)},
               {"prompt_tokens", report.prompt_tokens},
               {"output_tokens", report.output_tokens},
               {"batch", report.batch},
               {"context", report.context},
               {"repeat", report.repeat}};
  if (report.only_rank) json["only_rank"] = *report.only_rank;
  json.update(speed_json(report.ranks));
  if (report.predicted) {
    json["predicted_prefill_tokens_per_s"] = report.predicted->prefill_tokens_per_s;
    json["predicted_decode_tokens_per_s"] = report.predicted->decode_tokens_per_s;
  }
  if (report.one_rank && report.all_cores) {
    json["one_rank"] = speed_json(*report.one_rank);
    json["all_cores"] = speed_json(*report.all_cores);
    const auto compare = [&](const char* name, double GroupSpeed::* speed,
                             const GroupSpeed& other) {
      json[name] = ratio(report.ranks.*speed, other.*speed);
    };
    compare("speedup_prefill", &GroupSpeed::prefill_tokens_per_s, *report.one_rank);
    compare("speedup_decode", &GroupSpeed::decode_tokens_per_s, *report.one_rank);
    compare("relative_prefill", &GroupSpeed::prefill_tokens_per_s, *report.all_cores);
    compare("relative_decode", &GroupSpeed::decode_tokens_per_s, *report.all_cores);
  }
  json["per_rank"] = Json::array();
  for (size_t rank = 0; rank < report.rank_reports.size(); ++rank)
    json["per_rank"].push_back(rank_json(report, rank));
  json["plan"] = to_json(report.plan);
  return json;
}

}  // namespace shoal::cli
