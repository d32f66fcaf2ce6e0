// MODEL and the options that every command which runs a model has.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "backend/backend.h"
#include "model/model.h"
#include "moxie/tokenizer.h"

namespace CLI {
class App;
}

namespace moxie::cli {

struct ModelOptions {
  int threads = 0;        // 0: as many as this process may use
  int64_t context = 0;    // 0: all the model has
  std::string precision;  // "bf16" or "fp32"
};
void add_thread_option(CLI::App& command, ModelOptions& options);
void add_precision_option(CLI::App& command, ModelOptions& options);
void add_context_option(CLI::App& command, ModelOptions& options);
BackendOptions backend_options(const ModelOptions& options);

// Whether a word on the command line can only mean a model: an existing folder, a path that says it
// is one, owner/name with a letter somewhere, or "demo".
bool looks_like_model(const std::string& word);

// The folder of what was typed for MODEL; nothing, or "demo" where no folder has that name, means
// the demo model. Throws UsageError naming `command` and where the demo model was looked for when
// there is none.
std::filesystem::path find_model(const std::string& typed, const char* command);

// A model that is ready to run, with its tokenizer.
struct LoadedModel {
  std::filesystem::path folder;
  GenerationConfig generation;
  Tokenizer tokenizer;
  std::unique_ptr<Model> model;
  int64_t context = 0;  // positions a session may use
};
// max_logits: rows that get logits in one forward pass. Throws Error, also when tokenizer and
// weights are of different models.
LoadedModel load_model(const std::filesystem::path& folder, const ModelOptions& options,
                       int64_t max_logits = 1);

// Rows of one forward pass while a prompt is read: enough for the experts to be used by several
// rows each, few enough that Ctrl-C is answered soon.
inline constexpr int64_t kPrefillRows = 512;

}  // namespace moxie::cli
