#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "base/check.h"
#include "commands.h"
#include "convert/convert.h"
#include "folder_job.h"
#include "model/weights.h"
#include "moxie/tokenizer.h"

namespace moxie::cli {
namespace {

struct SynthOptions {
  std::string out, like, layout = "hf", tokenizer;
  int64_t layers = 0;
  uint64_t seed = 0;
  FolderJobOptions job;
};

GptOssConfig shapes(const SynthOptions& options) {
  GptOssConfig config = preset_config(options.like);
  if (options.layers > 0) {
    config.num_layers = options.layers;
    config.layer_is_sliding.resize(static_cast<size_t>(options.layers));
    for (size_t layer = 0; layer < config.layer_is_sliding.size(); ++layer)
      config.layer_is_sliding[layer] = layer % 2 == 0;
  }
  if (options.like == "tiny" && !options.tokenizer.empty()) {
    // The one shape that is not somebody else's: it grows to what the tokenizer needs.
    constexpr int64_t kRound = 128;
    const int64_t wanted = Tokenizer::from_file(options.tokenizer).vocab_size();
    config.vocab_size = std::max(config.vocab_size, (wanted + kRound - 1) / kRound * kRound);
  }
  return config;
}

}  // namespace

void add_synth(CLI::App& app) {
  auto options = std::make_shared<SynthOptions>();
  CLI::App* command = app.add_subcommand(
      "synth", "Make a model folder with random weights in the true shapes, for tests and timing");
  command->add_option("OUT", options->out, "The folder to make; must not exist, or be empty")
      ->required();
  command->add_option("--like", options->like, "20b (13.8 GB), 120b (65.2 GB) or tiny (below 1 MB)")
      ->type_name("SHAPE")
      ->check(CLI::IsMember({"20b", "120b", "tiny"}))
      ->required();
  command->add_option("--layers", options->layers, "So many layers instead of the shape's own")
      ->type_name("N")
      ->check(CLI::Range(1, 1000));
  command
      ->add_option("--seed", options->seed, "The same seed gives the same bytes, on every machine")
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "A tokenizer.json to copy; without one every byte is a token, and harmony's\n"
                   "special tokens are in place")
      ->type_name("FILE");
  command->add_option("--layout", options->layout, "hf or original, see `moxie convert --help`")
      ->type_name("LAYOUT")
      ->check(CLI::IsMember({"hf", "original"}))
      ->capture_default_str();
  add_folder_job_options(*command, options->job);
  command->footer(
      "The weights are random: what such a model writes means nothing. Its speed is that of the\n"
      "real one, since routing is close to uniform.\n"
      "\n"
      "Examples:\n"
      "  moxie synth ./tiny --like tiny\n"
      "  moxie synth ./like-20b --like 20b --layers 6 --tokenizer ./gpt-oss-20b/tokenizer.json");
  command->callback([options] {
    const std::optional<TargetLayout> layout = parse_layout(options->layout);
    if (!layout) throw UsageError(concat("--layout: there is no layout '", options->layout, "'"));
    const GptOssConfig config = shapes(*options);
    std::optional<std::filesystem::path> tokenizer;
    if (!options->tokenizer.empty()) tokenizer = options->tokenizer;
    run_folder_job("writing", options->out, options->job,
                   [&](const Progress& progress, const WriteOptions& write) {
                     return synthesize_checkpoint(config, options->out, *layout, tokenizer,
                                                  options->seed, progress, write);
                   });
  });
}

}  // namespace moxie::cli
