// What the commands that make a model folder share: the progress line, Ctrl-C, the summary.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/function_ref.h"
#include "convert/convert.h"

namespace CLI {
class App;
}

namespace moxie::cli {

struct FolderJobOptions {
  int threads = 0;  // 0: as many as this process may use
  std::string max_shard_size;
  bool json = false;
};

void add_folder_job_options(CLI::App& command, FolderJobOptions& options);

// "4.8GB", "500 MB", "1GiB", "123456": bytes. Throws UsageError naming `flag`.
uint64_t parse_size(const std::string& text, const std::string& flag);

// Runs `work` with a bar on standard error, bytes, rate and time left; then prints the summary.
// Ctrl-C, SIGTERM: says that nothing was written and throws Interrupted.
void run_folder_job(
    const std::string& title, const std::filesystem::path& out, const FolderJobOptions& options,
    FunctionRef<WriteSummary(const Progress& progress, const WriteOptions& write)> work);

}  // namespace moxie::cli
