// `moxie eval`: how often a model answers as it should, and how likely it finds what a teacher
// wrote.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "base/check.h"
#include "commands.h"
#include "engine/batch_session.h"
#include "engine/likelihood.h"
#include "eval_report.h"
#include "eval_score.h"
#include "eval_set.h"
#include "interrupt.h"
#include "model_options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

// Rows that get logits together when references are scored.
constexpr int64_t kScoredRows = 64;

struct Options {
  std::string model;
  std::vector<std::string> sets;
  int64_t max_tokens = 1024, limit = 0, batch = 8, show_failures = 0;
  std::string effort, json;
  std::optional<double> min_score;
  SamplingParams sampling{.temperature = 0};
  ModelOptions machine;
};

class Evaluation {
 public:
  Evaluation(const Options& options, std::vector<EvalItem> items, LoadedModel loaded)
      : options_(options),
        items_(std::move(items)),
        loaded_(std::move(loaded)),
        renderer_(loaded_.tokenizer) {
    render_all();
  }

  // Until all items are done or Ctrl-C; what is done is kept either way.
  void run(const InterruptScope& interrupt) {
    start_ = Clock::now();
    BatchSession session(*loaded_.model, positions_,
                         std::min(options_.batch, static_cast<int64_t>(items_.size())));
    KvCache reference_cache = loaded_.model->make_cache(positions_);
    size_t next = 0;
    while (!interrupt.interrupted() && (next < items_.size() || !session.idle())) {
      if (next < items_.size() && session.has_room()) {
        score_reference(next, reference_cache);
        session.add(static_cast<int64_t>(next), prompts_[next], generation());
        ++next;
        // Prompts are read together, so the batch is filled first.
        if (next < items_.size() && session.has_room()) continue;
        if (interrupt.interrupted()) break;
      }
      tokens_ += session.step([this](int64_t index, BatchResult result) {
        finish_item(static_cast<size_t>(index), std::move(result));
      });
      show_progress();
    }
    bar_.clear();
    seconds_ = elapsed();
  }

  void report() const {
    const std::vector<ItemResult> results = finished();
    EvalRun run;
    run.model = loaded_.folder.string();
    run.backend = loaded_.model->backend().description();
    run.effort = options_.effort;
    run.max_tokens = options_.max_tokens;
    run.batch = options_.batch;
    run.sampling = options_.sampling;
    run.num_items = static_cast<int64_t>(items_.size());
    run.seconds = seconds_;
    if (options_.json == "-") return print(eval_json(run, results));
    print(eval_table(run, results) + eval_failures(results, options_.show_failures));
    if (options_.json.empty()) return;
    std::ofstream out(options_.json, std::ios::binary);
    out << eval_json(run, results);
    out.close();
    MOXIE_CHECK(!out.fail(), kIo, "cannot write ", options_.json);
  }

  Tally total() const { return total_of(finished()); }

 private:
  using Clock = std::chrono::steady_clock;

  // Before the first token is computed, so that a set that does not fit is refused at once.
  void render_all() {
    for (EvalItem& item : items_) {
      if (!options_.effort.empty()) item.settings.system.effort = parse_effort(options_.effort);
      prompts_.push_back(renderer_.prompt(with_settings(item.settings, item.messages)));
      references_.push_back(reference_tokens(item));
      const auto prompt = static_cast<int64_t>(prompts_.back().size());
      const auto reference = static_cast<int64_t>(references_.back().size());
      MOXIE_CHECK(prompt + std::max<int64_t>(0, reference - 1) <= loaded_.context, kInvalidArgument,
                  item.where, ": expected a prompt and reference that fit the context of ",
                  loaded_.context, " tokens; found ", prompt, " and ", reference);
      positions_ = std::max({positions_, prompt + reference, prompt + options_.max_tokens});
    }
    positions_ = std::min(positions_, loaded_.context);
    results_.resize(items_.size());
  }

  // What the model would have to say behind <|start|>assistant to say the reference.
  std::vector<TokenId> reference_tokens(const EvalItem& item) const {
    std::vector<TokenId> all;
    for (const Message& message : item.reference) {
      const std::vector<TokenId> tokens = renderer_.message(message);
      all.insert(all.end(), tokens.begin(), tokens.end());
    }
    if (all.empty()) return all;
    const std::vector<TokenId> opening = renderer_.prompt({});  // is in the prompt already
    MOXIE_CHECK_INTERNAL(std::equal(opening.begin(), opening.end(), all.begin()));
    all.erase(all.begin(), all.begin() + static_cast<ptrdiff_t>(opening.size()));
    // The renderer ends what is history; the end of a turn is <|return|>, unless it is a call.
    if (item.reference.back().recipient.empty())
      all.back() = loaded_.tokenizer.special("<|return|>").value();
    return all;
  }

  GenerationOptions generation() const {
    GenerationOptions options;
    options.sampling = options_.sampling;
    options.max_tokens = options_.max_tokens;
    options.stop_tokens = renderer_.stop_tokens();
    options.sample_below = loaded_.tokenizer.vocab_size();
    return options;
  }

  void score_reference(size_t index, KvCache& cache) {
    ItemResult& result = results_[index];
    result.reference_tokens = static_cast<int64_t>(references_[index].size());
    if (result.reference_tokens == 0) return;
    result.reference_nll =
        negative_log_likelihood(*loaded_.model, cache, prompts_[index], references_[index]);
    show_progress();
  }

  void finish_item(size_t index, BatchResult generated) {
    const EvalItem& item = items_[index];
    HarmonyParser::Options parser_options;
    for (const FunctionTool& tool : item.settings.tools)
      parser_options.functions.push_back(tool.name);
    HarmonyParser parser(loaded_.tokenizer, std::move(parser_options));
    std::vector<HarmonyEvent> events;
    for (const TokenId token : generated.tokens) parser.push(token, events);
    parser.finish(events);

    ItemResult& result = results_[index];
    result.item = &item;
    result.reason = generated.reason;
    result.messages = parser.messages();
    Utf8Stream characters;
    result.raw = characters.push(loaded_.tokenizer.decode(generated.tokens)) + characters.finish();
    result.verdict = judge(item.expect, result.reason, result.messages);
    result.prompt_tokens = static_cast<int64_t>(prompts_[index].size());
    result.answer_tokens = static_cast<int64_t>(generated.tokens.size());
    const auto& recoveries = parser.recoveries();
    result.mended = std::accumulate(recoveries.begin(), recoveries.end(), int64_t{0});
    ++done_;
    if (result.verdict == Verdict::kRight) ++right_;
  }

  // In the order of the sets.
  std::vector<ItemResult> finished() const {
    std::vector<ItemResult> results;
    for (const ItemResult& result : results_)
      if (result.item != nullptr) results.push_back(result);
    return results;
  }

  void show_progress() {
    const double seconds = std::max(elapsed(), 1e-3);
    const auto all = static_cast<int64_t>(items_.size());
    // What a narrow terminal cuts off comes last.
    std::string detail = concat(done_, "/", all, ", ", right_, " right");
    if (done_ > 0) {
      const auto left = static_cast<int64_t>(seconds * static_cast<double>(all - done_) /
                                             static_cast<double>(done_));
      detail += concat(", ", left / 60, left % 60 < 10 ? ":0" : ":", left % 60, " left");
    }
    detail += concat(", ", format_fixed(static_cast<double>(tokens_) / seconds, 0), " tokens/s");
    bar_.update(static_cast<uint64_t>(done_), static_cast<uint64_t>(all), detail);
  }

  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  const Options& options_;
  std::vector<EvalItem> items_;
  LoadedModel loaded_;
  HarmonyRenderer renderer_;
  std::vector<std::vector<TokenId>> prompts_, references_;  // of each item
  std::vector<ItemResult> results_;                         // item is null until it is done
  int64_t positions_ = 1;                                   // that a cache needs
  int64_t done_ = 0, right_ = 0, tokens_ = 0;
  Clock::time_point start_ = Clock::now();
  double seconds_ = 0;
  ProgressBar bar_{"eval"};
};

// An evaluation can take hours; that its result has nowhere to go is said before.
void check_writable(const std::string& path) {
  if (path.empty() || path == "-") return;
  std::error_code ignored;
  const bool existed = std::filesystem::exists(path, ignored);
  const bool opened = std::ofstream(path, std::ios::app).is_open();
  MOXIE_CHECK(opened, kIo, "cannot write ", path, ", the file that --json names");
  if (!existed) std::filesystem::remove(path, ignored);
}

void evaluate(const Options& options) {
  const std::filesystem::path folder = find_model(options.model, "eval");
  std::vector<EvalItem> items = read_eval_sets(options.sets, options.limit);
  check_writable(options.json);
  const bool has_reference = std::any_of(
      items.begin(), items.end(), [](const EvalItem& item) { return !item.reference.empty(); });
  Evaluation evaluation(
      options, std::move(items),
      load_model(folder, options.machine,
                 std::max(options.batch, has_reference ? kScoredRows : int64_t{1})));
  InterruptScope interrupt;
  evaluation.run(interrupt);
  evaluation.report();
  interrupt.check();
  const Tally total = evaluation.total();
  if (!options.min_score) return;
  MOXIE_CHECK(100 * static_cast<double>(total.right()) >=
                  *options.min_score * static_cast<double>(total.items),
              kInvalidArgument, total.right(), " of ", total.items, " answers are right, ",
              format_fixed(100 * total.share(), 1), " %, and --min-score asks for ",
              *options.min_score, " %");
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "eval", "Measure how often a model's answers are right, on sets of questions");
  command->add_option("MODEL", options->model, "Folder or id of the model; demo: moxie's own")
      ->required();
  command
      ->add_option("SET", options->sets,
                   "Evaluation sets: .jsonl files, folders of them, or - for standard input")
      ->required();
  const char* const answers = "How answers are made";
  command
      ->add_option("-n,--max-tokens", options->max_tokens,
                   "An answer that takes more, reasoning included, is cut and not right")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str()
      ->group(answers);
  command
      ->add_option("--effort", options->effort,
                   "How long it reasons; the default is what each item says")
      ->check(CLI::IsMember({"low", "medium", "high", "none"}))
      ->group(answers);
  command
      ->add_option("--temperature", options->sampling.temperature,
                   "0 to 2; 0 takes the likeliest token")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str()
      ->group(answers);
  command
      ->add_option("--seed", options->sampling.seed, "Of the draws when the temperature is above 0")
      ->capture_default_str()
      ->group(answers);
  const char* const done = "What is done and shown";
  command->add_option("--limit", options->limit, "Only the first N items of each set")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->type_name("N")
      ->group(done);
  command
      ->add_option("--show-failures", options->show_failures,
                   "Show N answers that are not right: question, expected, got")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30))
      ->type_name("N")
      ->group(done);
  command
      ->add_option("--json", options->json,
                   "Write everything, each answer too, as JSON to this file; - writes it to\n"
                   "standard output in place of the table")
      ->group(done);
  command
      ->add_option("--min-score", options->min_score,
                   "Exit with 1 when fewer percent of the answers are right")
      ->check(CLI::Range(0.0, 100.0))
      ->type_name("PERCENT")
      ->group(done);
  command
      ->add_option("--batch", options->batch,
                   "Answers that are made together; shows in speed and memory, never in a result")
      ->check(CLI::Range(int64_t{1}, kPrefillRows))
      ->capture_default_str()
      ->group("Machine");
  add_context_option(*command, options->machine);
  add_thread_option(*command, options->machine);
  add_precision_option(*command, options->machine);
  command->footer(
      "A set has one JSON object a line: a conversation as `moxie chat` saves it, that ends where\n"
      "the assistant should speak, and what the answer should be.\n"
      "  {\"id\": \"a1\", \"ability\": \"addition\", \"messages\": [{\"role\": \"user\", "
      "\"content\": "
      "\"2 + 3\"}],\n"
      "   \"expect\": {\"final\": \"5\"}}\n"
      "\"expect\" has one of\n"
      "  {\"final\": \"5\"}                   the final text, but for white space around it\n"
      "  {\"final_pattern\": \"[A-Z ]+\"}     all of the final text matches (ECMAScript)\n"
      "  {\"call\": {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}}   the first "
      "call\n"
      "\"reference\", a list of messages of the assistant, is what a teacher would have said:\n"
      "perplexity is measured over it. docs/evaluation.md says all of this at length.\n"
      "\n"
      "The exit code is 0 however many answers are right, unless --min-score says otherwise. "
      "Ctrl-C\n"
      "ends after the step that runs, shows what is done, and the exit code is 130.\n"
      "\n"
      "Examples:\n"
      "  moxie eval ./model sets/addition.jsonl --show-failures 5\n"
      "  moxie eval ./model sets --limit 20 --batch 16\n"
      "  moxie eval ./model sets --json result.json --min-score 90\n"
      "  grep '\"ability\": \"addition\"' all.jsonl | moxie eval ./model - --effort low");
  command->callback([options] { evaluate(*options); });
}

}  // namespace moxie::cli
