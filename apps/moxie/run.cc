// `moxie run`: one prompt, one answer.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>

#include "answer_options.h"
#include "answer_printer.h"
#include "base/check.h"
#include "base/json.h"
#include "commands.h"
#include "conversation.h"
#include "demo_model.h"
#include "interrupt.h"
#include "model_options.h"
#include "stop_text.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct Options {
  std::string model, prompt, file;
  bool has_prompt = false;
  bool json = false, raw = false;
  AnswerOptions answer;
};

const char* reason_name(StopReason reason) {
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

std::string stats_json(const GenerationStats& stats, const SamplingParams& sampling) {
  return concat("\"seed\": ", sampling.seed, ", \"prompt_tokens\": ", stats.prompt_tokens,
                ", \"generated_tokens\": ", stats.generated_tokens,
                ", \"prefill_seconds\": ", stats.prefill_seconds,
                ", \"decode_seconds\": ", stats.decode_seconds);
}

std::string turn_json(const Turn& turn, const Settings& settings) {
  return concat("{\"text\": ", json::quote(turn.text(Part::kAnswer)),
                ", \"preamble\": ", json::quote(turn.text(Part::kPreamble)),
                ", \"reasoning\": ", json::quote(turn.text(Part::kReasoning)),
                ", \"call\": ", turn.call ? call_json(*turn.call) : "null", ", \"stop\": \"",
                turn.call ? "call" : reason_name(turn.reason), "\", \"mended\": ", turn.mended,
                ", ", stats_json(turn.stats, settings.sampling), "}\n");
}

std::string prompt_text(const Options& options) {
  std::string text;
  if (options.has_prompt && options.prompt != "-") {
    text = options.prompt;
  } else if (options.file.empty() || options.prompt == "-") {
    if (stdin_is_terminal() && !options.has_prompt)
      throw UsageError("moxie run needs a PROMPT, or text on standard input");
    text = read_stdin();
    // The newline that ends a piped text is no part of what is asked.
    if (!options.raw && !text.empty() && text.back() == '\n') text.pop_back();
  }
  if (!options.file.empty()) {
    if (!text.empty()) text += "\n\n";
    text += read_text(options.file);
  }
  MOXIE_CHECK(!text.empty(), kInvalidArgument, "the prompt is empty");
  return text;
}

void show_end(const Options& options, const Turn& turn, const Settings& settings, int64_t context) {
  const std::string end = describe_end(turn, settings, context);
  if (!end.empty()) note_line(end);
  if (!options.answer.quiet) note_line(describe_speed(turn.stats, settings.sampling));
}

void cancel_session(void* session) { static_cast<Session*>(session)->cancel(); }

// Text continued without any format: for models that were not trained to chat, and for tests.
void run_raw(const Options& options, LoadedModel& loaded, const std::string& text) {
  const Settings settings = make_settings(options.answer, loaded.generation);
  const Tokenizer& tokenizer = loaded.tokenizer;
  Session session(*loaded.model, loaded.context);
  GenerationOptions generation;
  generation.sampling = settings.sampling;
  generation.max_tokens = settings.max_tokens;
  generation.stop_tokens = loaded.generation.eos_token_ids;
  for (const char* end : {"<|return|>", "<|endoftext|>"}) {
    if (const auto id = tokenizer.special(end)) generation.stop_tokens.push_back(*id);
  }
  generation.sample_below = tokenizer.vocab_size();
  Utf8Stream characters;
  StopText stops(settings.stops);
  Turn turn;
  std::string all;
  const auto show = [&](const std::string& piece) {
    if (options.json)
      all += piece;
    else
      print(stdout_is_terminal() ? harmless(piece) : piece);
  };
  InterruptScope interrupt(cancel_session, &session);
  turn.reason = session.generate(tokenizer.encode(text), generation, [&](int32_t token) {
    const auto& ends = generation.stop_tokens;
    if (std::find(ends.begin(), ends.end(), token) != ends.end()) return true;
    show(stops.push(characters.push(tokenizer.bytes(token))));
    return !stops.stopped();
  });
  show(stops.push(characters.finish()) + stops.finish());
  turn.stats = session.stats();
  if (stops.stopped()) turn.reason = StopReason::kStopToken;
  if (options.json)
    print(concat("{\"text\": ", json::quote(all), ", \"stop\": \"", reason_name(turn.reason),
                 "\", ", stats_json(turn.stats, settings.sampling), "}\n"));
  else
    print("\n");
  show_end(options, turn, settings, loaded.context);
  interrupt.check();
}

void run_chat(const Options& options, LoadedModel& loaded, const std::string& text) {
  Conversation conversation(loaded, make_settings(options.answer, loaded.generation));
  conversation.add(text);
  for (;;) {
    AnswerPrinter printer(options.answer.reasoning, options.json);
    Turn turn;
    {
      InterruptScope interrupt(cancel_session, &conversation.session());
      turn = conversation.speak(printer.listener());
      printer.finish();
      if (options.json) print(turn_json(turn, conversation.settings));
      show_end(options, turn, conversation.settings, loaded.context);
      interrupt.check();
    }
    if (!turn.call) return;
    if (options.json) return;
    if (!stdin_is_terminal() || !stdout_is_terminal()) {
      print(call_json(*turn.call) + "\n");
      return;
    }
    note(concat("result of ", harmless(function_name(*turn.call)), "> "));
    const std::optional<std::string> result = read_line();
    if (!result) return;
    conversation.add(*result);
  }
}

void run(Options options) {
  // With one word only, it is the prompt unless it can only be a model.
  if (!options.has_prompt && !options.model.empty() && !looks_like_model(options.model)) {
    if (!find_demo_model().folder)
      throw UsageError(concat("moxie run needs a MODEL before the prompt: \"", options.model,
                              "\" is neither a folder nor an id such as openai/gpt-oss-20b, and "
                              "moxie's own demo model is not in ",
                              list_places(find_demo_model())));
    options.prompt = std::exchange(options.model, {});
    options.has_prompt = true;
  }
  const bool by_default = options.model.empty();
  const std::filesystem::path folder = find_model(options.model, "run");
  const std::string text = prompt_text(options);
  // Who meant a model and was taken to have asked something shall see it.
  if (by_default && !options.answer.quiet) note_line("(no MODEL named: the demo model answers)");
  LoadedModel loaded = load_model(folder, options.answer.machine);
  if (options.raw)
    run_raw(options, loaded, text);
  else
    run_chat(options, loaded, text);
}

}  // namespace

void add_run(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Ask one question and print the answer");
  command->add_option("MODEL", options->model,
                      "Folder or id of the model; without it, moxie's own demo model");
  CLI::Option* prompt = command->add_option(
      "PROMPT", options->prompt, "What to ask; without it, or for -, standard input is read");
  command->add_option("-f,--file", options->file,
                      "Append this file to the prompt; - for standard input");
  command->add_flag("--json", options->json,
                    "One JSON object with text, reasoning, call and counts");
  command->add_flag("--raw", options->raw,
                    "No chat format: the model continues the text as it stands");
  add_answer_options(*command, options->answer);
  command->footer(
      "The answer streams to standard output; speeds and seed follow on standard error. In a "
      "pipe,\n"
      "standard output carries the answer and nothing else. Ctrl-C stops the answer, and the exit "
      "code\n"
      "is 130.\n"
      "\n"
      "A single word or text is the PROMPT, unless it is a folder, a path or an id: then it is "
      "the MODEL,\n"
      "and standard input is read. With both there is no doubt: moxie run demo \"demo\".\n"
      "\n"
      "With --tools the model may end its turn with a call. On a terminal the call is shown and "
      "its\n"
      "result asked for; in a pipe the call is printed as JSON, {\"name\": ..., \"arguments\": "
      "...},\n"
      "and the program ends.\n"
      "\n"
      "Examples:\n"
      "  moxie run \"What is 347 + 58?\"\n"
      "  moxie run openai/gpt-oss-20b \"Why is the sky blue?\"\n"
      "  moxie run ./gpt-oss-20b --effort low --developer \"Answer in French.\" \"Who was "
      "Euler?\"\n"
      "  git diff | moxie run ./gpt-oss-20b \"Write a commit message.\" --file -\n"
      "  moxie run ./gpt-oss-20b --temperature 0 --date none --json < question.txt\n"
      "  moxie run ./gpt-oss-20b --tools weather.json \"Do I need an umbrella in Oslo?\"");
  command->callback([options, prompt] {
    options->has_prompt = prompt->count() > 0;
    run(*options);
  });
}

}  // namespace moxie::cli
