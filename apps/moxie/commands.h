// The subcommands of `moxie`: each lives in a file of its own and adds itself to the parser; its
// work runs when the parser calls it back. A command returns by finishing; it fails by throwing
// moxie::Error, which main() turns into one line and an exit code.
#pragma once

namespace CLI {
class App;
}

namespace moxie::cli {

void add_run(CLI::App& app);
void add_chat(CLI::App& app);
void add_bench(CLI::App& app);
void add_logits(CLI::App& app);
void add_tokenize(CLI::App& app);  // tokenize and detokenize
void add_doctor(CLI::App& app);
void add_inspect(CLI::App& app);
void add_quantize(CLI::App& app);
void add_convert(CLI::App& app);
void add_synth(CLI::App& app);

}  // namespace moxie::cli
