// `moxie logits`: the model's output for given token ids, as a file. Needs no tokenizer.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "checkpoint/safetensors.h"
#include "commands.h"
#include "interrupt.h"
#include "model_options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

// Rows whose logits are held at a time: 128 * 201088 * 4 bytes are 103 MB.
constexpr int64_t kLogitsRows = 128;

struct Options {
  std::string model, tokens, out;
  bool last = false;
  ModelOptions machine;
};

std::vector<int32_t> parse_tokens(const std::string& list) {
  // "-" and "@FILE" for lists too long for a command line.
  const std::string text = list == "-"      ? read_stdin()
                           : list[0] == '@' ? read_text(list.substr(1))
                                            : list;
  std::vector<int32_t> tokens;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    if (*at == ',' || *at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') {
      ++at;
      continue;
    }
    int32_t token = 0;
    const auto [next, failure] = std::from_chars(at, end, token);
    if (failure != std::errc{} || token < 0 ||
        (next != end && std::string_view(", \n\t\r").find(*next) == std::string_view::npos))
      throw UsageError(
          concat("--tokens wants ids such as 5,17,99, and entry ", tokens.size() + 1, " is none"));
    tokens.push_back(token);
    at = next;
  }
  if (tokens.empty()) throw UsageError("--tokens wants at least one id, such as 5,17,99");
  return tokens;
}

void write_logits(const Options& options) {
  const std::vector<int32_t> tokens = parse_tokens(options.tokens);
  const int64_t count = static_cast<int64_t>(tokens.size());
  InterruptScope interrupt;
  GptOssWeights weights = load_weights(find_model(options.model, "logits"));
  const GptOssConfig config = weights.config;
  const auto bad = std::find_if(tokens.begin(), tokens.end(),
                                [&](int32_t token) { return token >= config.vocab_size; });
  MOXIE_CHECK(bad == tokens.end(), kInvalidArgument, "token id ", *bad, " (entry ",
              bad - tokens.begin() + 1, " of --tokens) is outside the vocabulary of ",
              config.vocab_size);
  MOXIE_CHECK(count <= config.max_position, kInvalidArgument, "--tokens has ", count,
              " ids and the context of the model holds ", config.max_position);

  const int64_t rows = std::min(count, options.last ? kPrefillRows : kLogitsRows);
  Model model(std::move(weights), make_backend(backend_options(options.machine)), rows,
              options.last ? 1 : rows, count);
  KvCache cache = model.make_cache(count);
  const int64_t positions = options.last ? 1 : count;
  SafetensorsWriter writer(options.out, {{"logits", DType::kF32, {positions, config.vocab_size}}},
                           {{"format", "pt"}, {"precision", options.machine.precision}});
  ProgressBar bar("logits");
  for (int64_t done = 0; done < count;) {
    interrupt.check();
    // With --last the last token is a chunk of its own and runs like all others, so that its row is
    // the one that is written without --last, bit for bit.
    const int64_t left = count - done;
    const int64_t step = std::min(rows, options.last && left > 1 ? left - 1 : left);
    const bool wanted = !options.last || left == 1;
    const ForwardChunk chunk{
        &cache, std::span(tokens).subspan(static_cast<size_t>(done), static_cast<size_t>(step)),
        wanted ? LogitsWanted::kAll : LogitsWanted::kNone};
    const std::span<const float> logits = model.forward({&chunk, 1}, Phase::kPrefill);
    writer.write({reinterpret_cast<const uint8_t*>(logits.data()), logits.size_bytes()});
    done += step;
    bar.update(static_cast<uint64_t>(done), static_cast<uint64_t>(count),
               concat(done, " of ", count, " tokens"));
  }
  interrupt.check();
  writer.finish();
}

}  // namespace

void add_logits(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("logits", "Write the logits of given token ids to a safetensors file");
  command->add_option("MODEL", options->model, "Folder or id of the model; demo: moxie's own")
      ->required();
  command
      ->add_option("--tokens", options->tokens,
                   "Ids separated by commas; @FILE reads them from a file, - from standard input")
      ->required();
  command
      ->add_option("-o,--out", options->out,
                   "File to write: `logits`, float32 [tokens, vocabulary]")
      ->required();
  command->add_flag("--last", options->last, "Only the logits behind the last token");
  add_precision_option(*command, options->machine);
  add_thread_option(*command, options->machine);
  command->footer(
      "Row i holds what the model says after token i. No tokenizer is needed, and no text format "
      "is\n"
      "added: the ids are run as they stand, from position 0, the way prompts are.\n"
      "\n"
      "Examples:\n"
      "  moxie logits ./gpt-oss-20b --tokens 5,17,99 --out logits.safetensors\n"
      "  moxie logits ./gpt-oss-20b --tokens @ids.txt --precision fp32 --out exact.safetensors\n"
      "  moxie tokenize ./gpt-oss-20b < text | moxie logits ./gpt-oss-20b --tokens - --last -o "
      "l.safetensors");
  command->callback([options] { write_logits(*options); });
}

}  // namespace moxie::cli
