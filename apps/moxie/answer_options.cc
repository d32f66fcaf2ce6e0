#include "answer_options.h"

#include <CLI/CLI.hpp>
#include <ctime>
#include <random>

#include "base/check.h"
#include "commands.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d", &local);
  return text;
}

double rate(int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

}  // namespace

void add_answer_options(CLI::App& command, AnswerOptions& options) {
  const char* const told = "What the model is told";
  command.add_option("--effort", options.effort, "How long it reasons before it answers")
      ->check(CLI::IsMember({"low", "medium", "high"}))
      ->capture_default_str()
      ->group(told);
  command
      .add_option("--developer", options.developer,
                  "Instructions to follow, above what the user says: \"Answer in French.\"")
      ->group(told);
  command
      .add_option("--system", options.system,
                  "First line of the system message, in place of \"You are ChatGPT, ...\"; "
                  "instructions belong\ninto --developer")
      ->group(told);
  command
      .add_option("--date", options.date,
                  "Current date in the system message, YYYY-MM-DD or none; the default is today")
      ->group(told);
  command
      .add_option("--tools", options.tools,
                  "JSON file of functions the model may call, as the OpenAI API writes `tools`")
      ->group(told);

  const char* const drawn =
      "How tokens are drawn (defaults: generation_config.json, else 1.0 and off)";
  command.add_option("--temperature", options.temperature, "0 to 2; 0 takes the likeliest token")
      ->check(CLI::Range(0.0, 2.0))
      ->group(drawn);
  command
      .add_option("--top-p", options.top_p, "Draw among the likeliest with this share of the mass")
      ->check(CLI::Range(0.0, 1.0))
      ->group(drawn);
  command.add_option("--top-k", options.top_k, "Draw among the K likeliest; 0: off")
      ->check(CLI::Range(0, 1 << 30))
      ->group(drawn);
  command
      .add_option("--min-p", options.min_p,
                  "Drop what is less likely than this share of the likeliest")
      ->check(CLI::Range(0.0, 1.0))
      ->group(drawn);
  command
      .add_option("--seed", options.seed,
                  "Same seed, same text; the default is a random one, which is printed")
      ->group(drawn);

  const char* const ends = "Where an answer ends";
  command
      .add_option("-n,--max-tokens", options.max_tokens,
                  "At most so many tokens, reasoning included")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->group(ends);
  command
      .add_option("--stop", options.stops,
                  "End the answer before this text; may be given several times")
      ->allow_extra_args(false)
      ->group(ends);

  const char* const shown = "What is shown";
  command
      .add_option("--reasoning", options.reasoning,
                  "auto shows it, dimmed, on a terminal only. In a pipe, show\n"
                  "sends it to standard error")
      ->check(CLI::IsMember({"auto", "show", "hide"}))
      ->capture_default_str()
      ->group(shown);
  command.add_flag("-q,--quiet", options.quiet, "No speeds and no seed at the end")->group(shown);

  add_context_option(command, options.machine);
  add_thread_option(command, options.machine);
  add_precision_option(command, options.machine);
}

Settings make_settings(const AnswerOptions& options, const GenerationConfig& defaults) {
  Settings settings;
  settings.system.effort = parse_effort(options.effort);
  if (options.system) settings.system.identity = *options.system;
  settings.system.current_date = options.date.value_or(today());
  if (settings.system.current_date == "none") settings.system.current_date.clear();
  settings.developer = options.developer.value_or("");
  if (!options.tools.empty())
    settings.tools = parse_function_tools(read_text(options.tools), options.tools);

  SamplingParams& sampling = settings.sampling;
  sampling.temperature = options.temperature.value_or(defaults.temperature.value_or(1.0));
  sampling.top_p = options.top_p.value_or(defaults.top_p.value_or(1.0));
  sampling.top_k = options.top_k.value_or(static_cast<int32_t>(defaults.top_k.value_or(0)));
  sampling.min_p = options.min_p.value_or(defaults.min_p.value_or(0.0));
  sampling.seed = options.seed ? *options.seed : std::random_device()();
  if (options.top_p && *options.top_p == 0) throw UsageError("--top-p must be above 0");
  check(sampling);  // what generation_config.json says may be out of bounds

  settings.max_tokens = options.max_tokens;
  settings.stops = options.stops;
  return settings;
}

std::string describe_speed(const GenerationStats& stats, const SamplingParams& sampling) {
  const int64_t computed = stats.prompt_tokens - stats.cached_tokens;
  // The first token costs no step of its own: its logits come with the prompt.
  const int64_t steps = std::max<int64_t>(0, stats.generated_tokens - 1);
  std::string text = concat("prompt ", stats.prompt_tokens, " tokens");
  if (stats.cached_tokens > 0) text += concat(" (", stats.cached_tokens, " remembered)");
  text += concat(" at ", format_fixed(rate(computed, stats.prefill_seconds), 1), "/s, answer ",
                 stats.generated_tokens, " tokens");
  if (steps > 0) text += concat(" at ", format_fixed(rate(steps, stats.decode_seconds), 2), "/s");
  // Where only the likeliest token can be drawn, the seed shows in nothing.
  if (sampling.temperature > 0 && sampling.top_k != 1) text += concat(", seed ", sampling.seed);
  return text;
}

std::string describe_end(const Turn& turn, const Settings& settings, int64_t context) {
  switch (turn.reason) {
    case StopReason::kMaxTokens:
      return concat("(stopped after ", settings.max_tokens, " tokens, as --max-tokens asks)");
    case StopReason::kContextFull:
      return concat("(stopped: the context of ", context, " tokens is full)");
    case StopReason::kStopToken:
    case StopReason::kCancelled:
      break;
  }
  return {};
}

}  // namespace moxie::cli
