#include "model_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "commands.h"
#include "demo_model.h"

namespace moxie::cli {

void add_thread_option(CLI::App& command, ModelOptions& options) {
  command
      .add_option("-t,--threads", options.threads,
                  "Threads to compute with; the default is what this process may use")
      ->check(CLI::Range(1, 4096))
      ->group("Machine");
}

void add_precision_option(CLI::App& command, ModelOptions& options) {
  options.precision = "bf16";
  command
      .add_option("--precision", options.precision,
                  "bf16: the fast kernels; fp32: the slow, plain reference")
      ->check(CLI::IsMember({"bf16", "fp32"}))
      ->capture_default_str()
      ->group("Machine");
}

void add_context_option(CLI::App& command, ModelOptions& options) {
  command
      .add_option(
          "--ctx", options.context,
          "Tokens of context; memory is used as they come. The default is all the model has")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->group("Machine");
}

BackendOptions backend_options(const ModelOptions& options) {
  BackendOptions result;
  result.num_threads = options.threads;
  if (!options.precision.empty()) result.precision = parse_precision(options.precision).value();
  return result;
}

bool looks_like_model(const std::string& word) {
  std::error_code ignored;
  if (word == kDemoName || std::filesystem::is_directory(word, ignored)) return true;
  if (word.empty() || word.find_first_of(" \t\n") != std::string::npos) return false;
  if (word.rfind("/", 0) == 0 || word.rfind("./", 0) == 0 || word.rfind("../", 0) == 0) return true;
  const size_t slash = word.find('/');
  // 12/4 is a question.
  return slash != std::string::npos && slash > 0 && slash + 1 < word.size() &&
         std::any_of(word.begin(), word.end(),
                     [](unsigned char c) { return std::isalpha(c) != 0; }) &&
         std::all_of(word.begin(), word.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '/' || c == '-' || c == '_' || c == '.';
         });
}

std::filesystem::path find_model(const std::string& typed, const char* command) {
  std::error_code ignored;
  if (!typed.empty() && (typed != kDemoName || std::filesystem::exists(typed, ignored)))
    return resolve_model(typed);
  const DemoModel demo = find_demo_model();
  if (demo.folder) return *demo.folder;
  throw UsageError(
      concat("moxie ", command,
             " needs a MODEL: a folder with config.json and *.safetensors, or an id such as "
             "openai/gpt-oss-20b that is in the Hugging Face cache; moxie's own demo model was "
             "looked for and not found in ",
             list_places(demo)));
}

LoadedModel load_model(const std::filesystem::path& folder, const ModelOptions& options,
                       int64_t max_logits) {
  GptOssWeights weights = load_weights(folder);
  const GptOssConfig config = weights.config;
  MOXIE_CHECK(options.context <= config.max_position, kInvalidArgument, "--ctx ", options.context,
              " is more than the ", config.max_position, " positions that ",
              (folder / "config.json").string(), " allows");
  LoadedModel loaded{folder, read_generation_config(folder), Tokenizer::from_file(folder), nullptr,
                     options.context > 0 ? options.context : config.max_position};
  MOXIE_CHECK(loaded.tokenizer.vocab_size() <= config.vocab_size, kInvalidArgument,
              (folder / "tokenizer.json").string(), " has token ids up to ",
              loaded.tokenizer.vocab_size() - 1, " but the model has ", config.vocab_size,
              " of them; the tokenizer belongs to another model");
  const int64_t rows = std::max(std::min(kPrefillRows, loaded.context), max_logits);
  loaded.model = std::make_unique<Model>(std::move(weights), make_backend(backend_options(options)),
                                         rows, max_logits, loaded.context);
  return loaded;
}

}  // namespace moxie::cli
