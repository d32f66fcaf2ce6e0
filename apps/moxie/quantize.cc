#include <CLI/CLI.hpp>
#include <memory>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "commands.h"
#include "folder_job.h"

namespace moxie::cli {
namespace {

struct QuantizeOptions {
  std::string in, out, rule = "round_up";
  FolderJobOptions job;
};

}  // namespace

void add_quantize(CLI::App& app) {
  auto options = std::make_shared<QuantizeOptions>();
  CLI::App* command = app.add_subcommand(
      "quantize", "Make an MXFP4 model folder of a bf16 one, such as a fine-tune by transformers");
  command->add_option("BF16_DIR", options->in, "Model folder with experts in BF16, F16 or F32")
      ->required();
  command->add_option("OUT", options->out, "The folder to make; must not exist, or be empty")
      ->required();
  command
      ->add_option("--scale-rule", options->rule,
                   "How a block's scale follows from its largest weight:\n"
                   "round_up clips nothing and is what gpt-oss was made with,\n"
                   "floor is OCP's rule and clips up to a quarter of the largest,\n"
                   "even has the least error on average")
      ->type_name("RULE")
      ->check(CLI::IsMember({"round_up", "floor", "even"}))
      ->capture_default_str();
  add_folder_job_options(*command, options->job);
  command->footer(
      "Only the experts' matrices are quantised, the rest is copied; matrices in F32 or F16 are\n"
      "rounded to BF16. OUT appears when it is complete; Ctrl-C leaves nothing behind.\n"
      "\n"
      "Examples:\n"
      "  moxie quantize ./my-finetune-bf16 ./my-finetune\n"
      "  moxie quantize ./my-finetune-bf16 ./my-finetune-even --scale-rule even");
  command->callback([options] {
    const std::optional<mxfp4::ScaleRule> rule = mxfp4::parse_scale_rule(options->rule);
    if (!rule) throw UsageError(concat("--scale-rule: there is no rule '", options->rule, "'"));
    const std::filesystem::path in = resolve_model(options->in);
    run_folder_job("quantizing", options->out, options->job,
                   [&](const Progress& progress, const WriteOptions& write) {
                     return quantize_checkpoint(in, options->out, *rule, progress, write);
                   });
  });
}

}  // namespace moxie::cli
