#include "convert/convert.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "commands.h"
#include "folder_job.h"
#include "model_options.h"

namespace moxie::cli {
namespace {

struct ConvertOptions {
  std::string in, out, layout;
  FolderJobOptions job;
};

}  // namespace

void add_convert(CLI::App& app) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* command =
      app.add_subcommand("convert", "Rewrite a model folder in another layout, value for value");
  command->add_option("IN", options->in, "Model folder or id; it is only read")->required();
  command->add_option("OUT", options->out, "The folder to make; must not exist, or be empty")
      ->required();
  command
      ->add_option("--layout", options->layout,
                   "hf: Hugging Face's names, MXFP4 experts;\n"
                   "original: OpenAI's names, as in the folder original/ of the published models;\n"
                   "bf16: Hugging Face's names, experts dequantised, as transformers trains them")
      ->type_name("LAYOUT")
      ->check(CLI::IsMember({"hf", "original", "bf16"}))
      ->required();
  add_folder_job_options(*command, options->job);
  command->footer(
      "IN is in MXFP4, hf or original; for bf16 folders see `moxie quantize`. bf16 takes about\n"
      "three times the space. OUT appears when it is complete; Ctrl-C leaves nothing behind.\n"
      "\n"
      "Examples:\n"
      "  moxie convert openai/gpt-oss-20b ./gpt-oss-20b-bf16 --layout bf16\n"
      "  moxie convert ./gpt-oss-20b/original ./gpt-oss-20b-hf --layout hf");
  command->callback([options] {
    const std::optional<TargetLayout> layout = parse_layout(options->layout);
    if (!layout) throw UsageError(concat("--layout: there is no layout '", options->layout, "'"));
    const std::filesystem::path in = find_model(options->in, "convert");
    run_folder_job("converting", options->out, options->job,
                   [&](const Progress& progress, const WriteOptions& write) {
                     return convert_checkpoint(in, options->out, *layout, progress, write);
                   });
  });
}

}  // namespace moxie::cli
