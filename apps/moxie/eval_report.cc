#include "eval_report.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "base/json.h"
#include "moxie/version.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

const char* stop_name(StopReason reason) {
  switch (reason) {
    case StopReason::kStopToken:
      return "stop";
    case StopReason::kMaxTokens:
      return "max_tokens";
    case StopReason::kContextFull:
      return "context_full";
    case StopReason::kCancelled:
      break;
  }
  return "cancelled";
}

// The shortest decimal that reads back as the same double.
std::string exact(double value) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end.ptr);
}

std::string cell(const std::string& text, size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : " " + text;
}

std::string table_row(const std::string& name, size_t name_width, const Tally& tally) {
  const Interval interval = wilson_interval(tally.right(), tally.items);
  return concat(
      name, std::string(name_width - name.size(), ' '), cell(std::to_string(tally.items), 8),
      cell(std::to_string(tally.right()), 8),
      cell(tally.items > 0 ? format_fixed(100 * tally.share(), 1) + " %" : "-", 13),
      cell(concat(format_fixed(100 * interval.low, 1), " - ", format_fixed(100 * interval.high, 1)),
           16),
      cell(tally.reference_tokens > 0 ? format_fixed(tally.perplexity(), 4) : "-", 13),
      cell(tally.items > 0 ? format_fixed(tally.mean_answer_tokens(), 1) : "-", 16), "\n");
}

// The first bytes of a text, cut between characters, its lines under one another.
std::string excerpt(std::string_view text) {
  constexpr size_t kMost = 600;
  std::string shown(text.substr(0, kMost));
  if (text.size() > kMost) {
    size_t end = kMost;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    shown.resize(end);
    shown += " ...";
  }
  shown = harmless(trimmed(shown));
  std::string indented;
  for (const char c : shown) indented += c == '\n' ? "\n            " : std::string(1, c);
  return indented;
}

std::string expected_text(const Expectation& expect) {
  switch (expect.kind) {
    case Expectation::Kind::kFinal:
      break;
    case Expectation::Kind::kPattern:
      return "a text that matches " + expect.text;
    case Expectation::Kind::kCall:
      return concat("{\"name\": ", json::quote(expect.text), ", \"arguments\": ", expect.arguments,
                    "}");
  }
  return expect.text;
}

std::string got_text(const ItemResult& result) {
  const std::string text = final_text(result.messages);
  if (!text.empty()) return text;
  if (const Message* call = first_call(result.messages)) return call_json(*call);
  return result.raw.empty() ? "nothing" : "nothing in final: " + result.raw;
}

std::string json_tally(const Tally& tally) {
  const Interval interval = wilson_interval(tally.right(), tally.items);
  std::string text =
      concat("\"items\": ", tally.items, ", \"right\": ", tally.right(),
             ", \"exact_match\": ", exact(tally.share()), ", \"interval\": [", exact(interval.low),
             ", ", exact(interval.high),
             "], \"perplexity\": ", tally.reference_tokens > 0 ? exact(tally.perplexity()) : "null",
             ", \"reference_tokens\": ", tally.reference_tokens,
             ", \"reference_nll\": ", exact(tally.reference_nll),
             ", \"mean_answer_tokens\": ", exact(tally.mean_answer_tokens()), ", \"verdicts\": {");
  for (size_t i = 0; i < tally.verdicts.size(); ++i)
    text +=
        concat(i == 0 ? "" : ", ", "\"", name(static_cast<Verdict>(i)), "\": ", tally.verdicts[i]);
  return text + "}";
}

std::string json_item(const ItemResult& result) {
  const EvalItem& item = *result.item;
  const Message* call = first_call(result.messages);
  const bool scored = result.reference_tokens > 0;
  return concat(
      "{\"set\": ", json::quote(item.set), ", \"line\": ", item.line,
      ", \"id\": ", json::quote(item.id), ", \"ability\": ", json::quote(item.ability),
      ", \"right\": ", result.verdict == Verdict::kRight ? "true" : "false", ", \"verdict\": \"",
      name(result.verdict), "\", \"expected\": ", json::quote(expected_text(item.expect)),
      ", \"final\": ", json::quote(final_text(result.messages)),
      ", \"reasoning\": ", json::quote(reasoning_text(result.messages)),
      ", \"raw\": ", json::quote(result.raw),
      ", \"call\": ", call != nullptr ? call_json(*call) : "null", ", \"stop\": \"",
      stop_name(result.reason), "\", \"mended\": ", result.mended,
      ", \"prompt_tokens\": ", result.prompt_tokens, ", \"answer_tokens\": ", result.answer_tokens,
      ", \"reference_tokens\": ", result.reference_tokens,
      ", \"reference_nll\": ", scored ? exact(result.reference_nll) : "null", ", \"perplexity\": ",
      scored ? exact(perplexity(result.reference_nll, result.reference_tokens)) : "null", "}");
}

}  // namespace

std::vector<std::pair<std::string, Tally>> tallies(const std::vector<ItemResult>& results) {
  std::vector<std::pair<std::string, Tally>> all;
  for (const ItemResult& result : results) {
    const auto known = std::find_if(all.begin(), all.end(), [&](const auto& entry) {
      return entry.first == result.item->ability;
    });
    if (known != all.end())
      known->second.add(result);
    else
      all.emplace_back(result.item->ability, Tally{}).second.add(result);
  }
  return all;
}

Tally total_of(const std::vector<ItemResult>& results) {
  Tally total;
  for (const ItemResult& result : results) total.add(result);
  return total;
}

std::string eval_table(const EvalRun& run, const std::vector<ItemResult>& results) {
  std::vector<std::pair<std::string, Tally>> rows = tallies(results);
  const Tally total = total_of(results);
  size_t width = std::string_view("ability").size();
  for (auto& [ability, tally] : rows) {
    ability = harmless(ability);
    width = std::max(width, ability.size());
  }
  std::string text = concat("ability", std::string(width - 7, ' '), cell("items", 8),
                            cell("right", 8), cell("exact match", 13), cell("95 % interval", 16),
                            cell("perplexity", 13), cell("tokens/answer", 16), "\n");
  for (const auto& [ability, tally] : rows) text += table_row(ability, width, tally);
  text += table_row("total", width, total);

  std::string failures;
  for (size_t i = 1; i < total.verdicts.size(); ++i)
    if (total.verdicts[i] > 0)
      failures += concat(failures.empty() ? "" : "; ", total.verdicts[i], " ",
                         description(static_cast<Verdict>(i)));
  if (!failures.empty()) text += concat("\nnot right: ", failures, "\n");
  if (total.items < run.num_items)
    text += concat("\nstopped after ", total.items, " of ", run.num_items, " items\n");
  return text;
}

std::string eval_failures(const std::vector<ItemResult>& results, int64_t limit) {
  std::string text;
  for (const ItemResult& result : results) {
    if (limit <= 0) break;
    if (result.verdict == Verdict::kRight) continue;
    --limit;
    const EvalItem& item = *result.item;
    text += concat("\n", harmless(item.id), " (", harmless(item.where),
                   "): ", description(result.verdict),
                   "\n  question: ", excerpt(item.messages.back().content),
                   "\n  expected: ", excerpt(expected_text(item.expect)),
                   "\n  got:      ", excerpt(got_text(result)), "\n");
  }
  return text;
}

std::string eval_json(const EvalRun& run, const std::vector<ItemResult>& results) {
  const bool complete = static_cast<int64_t>(results.size()) == run.num_items;
  std::string text = concat(
      "{\n  \"moxie\": ", json::quote(version()), ",\n  \"model\": ", json::quote(run.model),
      ",\n  \"backend\": ", json::quote(run.backend),
      ",\n  \"effort\": ", run.effort.empty() ? "null" : json::quote(run.effort),
      ",\n  \"max_tokens\": ", run.max_tokens, ",\n  \"batch\": ", run.batch,
      ",\n  \"temperature\": ", exact(run.sampling.temperature),
      ",\n  \"seed\": ", run.sampling.seed, ",\n  \"complete\": ", complete ? "true" : "false",
      ",\n  \"seconds\": ", exact(run.seconds), ",\n  \"total\": {", json_tally(total_of(results)),
      "},\n  \"abilities\": [");
  bool first = true;
  for (const auto& [ability, tally] : tallies(results)) {
    text += concat(first ? "\n" : ",\n", "    {\"ability\": ", json::quote(ability), ", ",
                   json_tally(tally), "}");
    first = false;
  }
  text += "\n  ],\n  \"items\": [";
  for (size_t i = 0; i < results.size(); ++i)
    text += concat(i == 0 ? "\n" : ",\n", "    ", json_item(results[i]));
  return text + "\n  ]\n}\n";
}

}  // namespace moxie::cli
