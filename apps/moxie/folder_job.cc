#include "folder_job.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/json.h"
#include "byte_progress.h"
#include "commands.h"
#include "interrupt.h"
#include "terminal.h"

namespace moxie::cli {

uint64_t parse_size(const std::string& text, const std::string& flag) {
  static constexpr struct {
    const char* suffix;
    double bytes;
  } kUnits[] = {{"", 1},         {"B", 1},        {"KB", 1e3},    {"kB", 1e3},
                {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},   {"KiB", 0x1p10},
                {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string suffix(end, text.data() + text.size());
  suffix.erase(
      0, suffix.find_first_not_of(' ') == std::string::npos ? 0 : suffix.find_first_not_of(' '));
  for (const auto& unit : kUnits) {
    const double bytes = value * unit.bytes;
    if (error == std::errc{} && suffix == unit.suffix && bytes >= 1 && bytes <= 0x1p60)
      return static_cast<uint64_t>(std::llround(bytes));
  }
  throw UsageError(concat(flag, ": expected a size such as 4.8GB or 500MB, got '", text, "'"));
}

void add_folder_job_options(CLI::App& command, FolderJobOptions& options) {
  command.add_option("--threads", options.threads, "Threads; 0: all that this process may use")
      ->type_name("N")
      ->check(CLI::Range(0, 4096));
  command
      .add_option("--max-shard-size", options.max_shard_size,
                  "Largest file of tensors, e.g. 500MB; default 4.8GB, original layout 14GB")
      ->type_name("SIZE");
  command.add_flag("--json", options.json, "Print the summary as JSON");
}

void run_folder_job(
    const std::string& title, const std::filesystem::path& out, const FolderJobOptions& options,
    FunctionRef<WriteSummary(const Progress& progress, const WriteOptions& write)> work) {
  WriteOptions write;
  write.num_threads = options.threads;
  if (!options.max_shard_size.empty())
    write.max_shard_bytes = parse_size(options.max_shard_size, "--max-shard-size");

  InterruptScope scope(InterruptScope::Second::kWaits);
  ByteProgress bar(title);
  Progress progress;
  progress.report = [&](uint64_t done, uint64_t total, std::string_view what) {
    bar.update(done, total, what);
  };
  progress.cancelled = [&] { return scope.interrupted(); };
  WriteSummary summary;
  try {
    summary = work(progress, write);
  } catch (const Cancelled&) {
    bar.clear();
    note("moxie: stopped, nothing was written\n");
    throw Interrupted{};
  }
  bar.clear();
  const double seconds = bar.seconds();
  if (options.json) {
    print(concat("{\"folder\": ", json::quote(out.string()), ", \"tensors\": ", summary.num_tensors,
                 ", \"files\": ", summary.num_files, ", \"tensor_bytes\": ", summary.tensor_bytes,
                 ", \"rounded_to_bf16\": ", summary.num_rounded, ", \"copied_files\": ",
                 summary.num_companions, ", \"seconds\": ", format_fixed(seconds, 3), "}\n"));
    return;
  }
  std::string text =
      concat(out.string(), ": ", summary.num_tensors, " tensors, ",
             format_bytes(summary.tensor_bytes), " in ", summary.num_files,
             summary.num_files == 1 ? " file, " : " files, ", format_seconds(seconds));
  if (seconds > 0.5)
    text += concat(
        ", ",
        format_bytes(static_cast<uint64_t>(static_cast<double>(summary.tensor_bytes) / seconds)),
        "/s");
  text += "\n";
  if (summary.num_rounded > 0)
    text += concat(summary.num_rounded, " matrices besides the experts were rounded to BF16\n");
  print(text);
}

}  // namespace moxie::cli
