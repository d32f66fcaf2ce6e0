// The subcommands of `moxie`: each lives in a file of its own and adds itself to the parser; its
// work runs when the parser calls it back. A command returns by finishing; it fails by throwing,
// which main() turns into one line on standard error and an exit code:
//   moxie::Error   1   what was asked for did not work
//   UsageError     2   what was asked for cannot be meant
//   Interrupted  130   Ctrl-C; nothing is printed
//   OutputClosed 141   the reader of standard output has gone; nothing is printed
#pragma once

#include <stdexcept>
#include <string>

namespace CLI {
class App;
}

namespace moxie::cli {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void add_run(CLI::App& app);
void add_chat(CLI::App& app);
void add_bench(CLI::App& app);
void add_eval(CLI::App& app);
void add_logits(CLI::App& app);
void add_tokenize(CLI::App& app);  // tokenize and detokenize
void add_doctor(CLI::App& app);
void add_inspect(CLI::App& app);
void add_quantize(CLI::App& app);
void add_convert(CLI::App& app);
void add_synth(CLI::App& app);
void add_completion(CLI::App& app);  // app: the root, whose commands the script completes

}  // namespace moxie::cli
