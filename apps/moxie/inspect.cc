#include <CLI/CLI.hpp>
#include <memory>

#include "base/check.h"
#include "byte_progress.h"
#include "commands.h"
#include "inspection.h"
#include "inspection_text.h"
#include "interrupt.h"
#include "model/value_check.h"
#include "model_options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct InspectOptions {
  std::string model;
  bool all_tensors = false, check = false, json = false;
  int64_t context = 0;
  int threads = 0;
};

void inspect(const InspectOptions& options) {
  const std::filesystem::path path = find_model(options.model, "inspect");
  const TensorFolder folder(path);
  InterruptScope scope;
  Inspection found;
  std::vector<std::string> problems;
  {
    ByteProgress bar(options.check ? "checking" : "reading scales");
    const auto progress = [&](uint64_t done, uint64_t total, std::string_view tensor) {
      scope.check();
      bar.update(done, total, tensor);
    };
    if (options.check) {
      // The scales are read with everything else.
      const auto nothing = [](uint64_t, uint64_t, std::string_view) {};
      found =
          inspect_folder(path, folder, options.context, options.threads, ReadScales::kNo, nothing);
      ValueReport values = check_tensor_values(folder, progress);
      found.scales = values.scale_histogram;
      problems = std::move(values.problems);
    } else {
      found = inspect_folder(path, folder, options.context, options.threads, ReadScales::kYes,
                             progress);
    }
  }
  // Weights that are in order but for transformers are no fault of the folder.
  if (!found.memory && found.form != FolderForm::kDequantized)
    problems.insert(problems.begin(), found.unusable);

  const TensorFolder* all = options.all_tensors ? &folder : nullptr;
  if (options.json) {
    print(inspection_json(found, all, options.check, problems));
  } else {
    print(inspection_text(found, all));
    if (options.check && problems.empty()) {
      print(concat("\nChecked ", found.num_tensors, " tensors, ", format_bytes(found.tensor_bytes),
                   ": shapes and pairing fit, every value is finite\n"));
    } else if (!problems.empty()) {
      print(concat("\nProblems: ", problems.size(), "\n"));
      for (const std::string& problem : problems) print(concat("  ", problem, "\n"));
    }
  }
  if (problems.empty()) return;
  throw make_error(ErrorCode::kInvalidArgument, path.string(), ": ", problems.size(),
                   problems.size() == 1 ? " problem" : " problems",
                   " found, the first: ", problems.front());
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Show what a model folder holds and takes, and check every value in it");
  command->add_option("MODEL", options->model, "Folder or id of the model; demo: moxie's own")
      ->required();
  command->add_flag("--check", options->check,
                    "Read every tensor: NaN and infinity, scales that are NaN or overflow,\n"
                    "shapes and pairing. Exit code 1 if something is found");
  command->add_flag("--tensors", options->all_tensors, "List every tensor instead of groups");
  command
      ->add_option("--ctx", options->context,
                   "Plan memory for so many tokens of context instead of all the model has")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command->add_option("-t,--threads", options->threads, "Threads to plan for and to read with")
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  moxie inspect openai/gpt-oss-20b --ctx 32768\n"
      "  moxie inspect ./my-finetune --check");
  command->callback([options] { inspect(*options); });
}

}  // namespace moxie::cli
