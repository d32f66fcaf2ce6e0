// `moxie doctor`: what this machine is, what moxie will use of it, and why.

#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/check.h"
#include "base/env.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "commands.h"
#include "cpu/isa.h"
#include "cpu/limits.h"
#include "demo_model.h"
#include "model_options.h"
#include "moxie/version.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct Options {
  bool json = false, measure = false;
  ModelOptions machine;
};

struct Memory {
  uint64_t total = 0, available = 0;
  uint64_t cgroup_limit = 0;  // 0: none
  std::string huge_pages;     // "always", "madvise", "never"
};

std::string first_line_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

Memory read_memory() {
  Memory memory;
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string key;
    uint64_t kib = 0;
    if (!(fields >> key >> kib)) continue;
    if (key == "MemTotal:") memory.total = kib * 1024;
    if (key == "MemAvailable:") memory.available = kib * 1024;
  }
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::istringstream text(first_line_of(path));
    uint64_t bytes = 0;
    if (text >> bytes && bytes > 0 && bytes < memory.total) memory.cgroup_limit = bytes;
  }
  // "always [madvise] never": the one in brackets holds.
  const std::string modes = first_line_of("/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t open = modes.find('['), close = modes.find(']');
  if (open != std::string::npos && close != std::string::npos)
    memory.huge_pages = modes.substr(open + 1, close - open - 1);
  return memory;
}

std::string describe_folder(const std::filesystem::path& path) {
  const GptOssConfig config = read_config(path);
  return concat("gpt-oss, ", config.num_layers, " layers, ", config.num_experts, " experts, ",
                format_bytes(TensorFolder(path).total_bytes()));
}

struct CachedModel {
  std::string name, state;
};

// gpt-oss models in the Hugging Face cache: "models--openai--gpt-oss-20b".
std::vector<CachedModel> cached_models(const std::filesystem::path& hub) {
  constexpr std::string_view kPrefix = "models--";
  std::vector<CachedModel> models;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(hub, ignored)) {
    std::string folder = entry.path().filename().string();
    if (folder.rfind(kPrefix, 0) != 0) continue;
    folder.erase(0, kPrefix.size());
    const size_t dashes = folder.find("--");
    if (dashes == std::string::npos) continue;
    CachedModel model{folder.substr(0, dashes) + "/" + folder.substr(dashes + 2), {}};
    try {
      model.state = describe_folder(resolve_model(model.name));
    } catch (const Error& error) {
      model.state = error.what();
    }
    models.push_back(std::move(model));
  }
  std::sort(models.begin(), models.end(),
            [](const CachedModel& a, const CachedModel& b) { return a.name < b.name; });
  return models;
}

std::string describe_demo() {
  const DemoModel demo = find_demo_model();
  if (!demo.folder) return "not found in " + list_places(demo);
  try {
    return concat(demo.folder->string(), ": ", describe_folder(*demo.folder));
  } catch (const Error& error) {
    return error.what();
  }
}

struct Report {
  std::string system;
  cpu::CpuDescription cpu;
  int usable_cpus = 0, threads = 0;
  Memory memory;
  std::vector<BackendReport> backends;
  std::string isa;  // or why there is none
  double read_bytes_per_second = 0, flops_per_second = 0;
  std::string demo;  // where the demo model is and what; or where it is not
  std::string hub;
  std::vector<CachedModel> models;
};

Report examine(const Options& options) {
  Report report;
  utsname system = {};
  uname(&system);
  report.system = concat(system.sysname, " ", system.release, " ", system.machine);
  report.cpu = cpu::describe_cpu();
  report.usable_cpus = available_cpus();
  report.threads = options.machine.threads > 0 ? options.machine.threads : report.usable_cpus;
  report.memory = read_memory();
  report.backends = describe_backends(backend_options(options.machine));
  try {
    report.isa = cpu::name(cpu::chosen_isa());
  } catch (const Error& error) {
    report.isa = error.what();
  }
  if (options.measure) {
    ThreadPool pool(report.threads);
    report.read_bytes_per_second = cpu::measure_read_bandwidth(pool);
    report.flops_per_second = cpu::measure_peak_flops(pool, cpu::chosen_isa());
  }
  report.demo = describe_demo();
  if (const auto hub = env::hugging_face_hub()) {
    report.hub = hub->string();
    report.models = cached_models(*hub);
  }
  return report;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

void print_text(const Report& r, bool measured) {
  print(concat("moxie     ", version(), "\nsystem    ", r.system, "\ncpu       ", r.cpu.model_name,
               ", ", r.cpu.num_cpus, " CPUs, of which this process may use ", r.usable_cpus,
               "\nfeatures  ", joined(r.cpu.features), "\nthreads   ", r.threads, "\n"));
  print(concat("memory    ", format_bytes(r.memory.total), ", ", format_bytes(r.memory.available),
               " of it free",
               r.memory.cgroup_limit > 0
                   ? concat("; this process may use ", format_bytes(r.memory.cgroup_limit))
                   : "",
               "; huge pages: ", r.memory.huge_pages.empty() ? "none" : r.memory.huge_pages, "\n"));
  if (measured)
    print(concat("measured  reading ", format_fixed(r.read_bytes_per_second / 1e9, 2),
                 " GB/s, arithmetic (", r.isa, ") ", format_fixed(r.flops_per_second / 1e9, 0),
                 " GFLOP/s\n"));
  print("backends\n");
  for (const BackendReport& backend : r.backends) {
    const char* mark = backend.chosen ? "used" : backend.available ? "yes" : "no";
    std::string name = backend.name;
    name.resize(std::max<size_t>(name.size(), 18), ' ');
    print(concat("  ", std::string(mark) + std::string(5 - std::string(mark).size(), ' '), name,
                 " ", backend.reason, "\n"));
  }
  print(concat("demo      ", r.demo, "\n"));
  print(concat("models    in ", r.hub.empty() ? "(no home folder)" : r.hub, "\n"));
  for (const CachedModel& model : r.models)
    print(concat("  ", model.name, ": ", model.state, "\n"));
  if (r.models.empty()) print("  none\n");
  // What fits: the weights are mapped, but a model that does not fit is read from disk again and
  // again.
  for (const auto& [name, bytes] : {std::pair{"gpt-oss-20b", 13.8e9}, {"gpt-oss-120b", 65.2e9}}) {
    const double limit =
        static_cast<double>(r.memory.cgroup_limit > 0 ? r.memory.cgroup_limit : r.memory.total);
    print(concat(name, bytes + 1.5e9 <= limit ? " fits into memory\n"
                                              : " does not fit into memory: it would be read from "
                                                "disk for every token\n"));
  }
}

void print_json(const Report& r, bool measured) {
  std::string text =
      concat("{\n  \"moxie\": ", json::quote(version()), ",\n  \"system\": ", json::quote(r.system),
             ",\n  \"cpu\": ", json::quote(r.cpu.model_name), ",\n  \"cpus\": ", r.cpu.num_cpus,
             ",\n  \"usable_cpus\": ", r.usable_cpus, ",\n  \"threads\": ", r.threads,
             ",\n  \"features\": [");
  for (size_t i = 0; i < r.cpu.features.size(); ++i)
    text += concat(i == 0 ? "" : ", ", json::quote(r.cpu.features[i]));
  text += concat("],\n  \"memory_bytes\": ", r.memory.total,
                 ",\n  \"available_bytes\": ", r.memory.available, ",\n  \"memory_limit_bytes\": ",
                 r.memory.cgroup_limit > 0 ? std::to_string(r.memory.cgroup_limit) : "null",
                 ",\n  \"huge_pages\": ", json::quote(r.memory.huge_pages),
                 ",\n  \"isa\": ", json::quote(r.isa));
  if (measured)
    text += concat(",\n  \"read_bytes_per_second\": ", r.read_bytes_per_second,
                   ",\n  \"arithmetic_flops_per_second\": ", r.flops_per_second);
  text += ",\n  \"backends\": [";
  for (size_t i = 0; i < r.backends.size(); ++i) {
    const BackendReport& backend = r.backends[i];
    text += concat(i == 0 ? "\n" : ",\n", "    {\"name\": ", json::quote(backend.name),
                   ", \"available\": ", backend.available ? "true" : "false",
                   ", \"chosen\": ", backend.chosen ? "true" : "false",
                   ", \"reason\": ", json::quote(backend.reason), "}");
  }
  text += concat("\n  ],\n  \"demo_model\": ", json::quote(r.demo),
                 ",\n  \"hugging_face_hub\": ", json::quote(r.hub), ",\n  \"models\": [");
  for (size_t i = 0; i < r.models.size(); ++i)
    text += concat(i == 0 ? "\n" : ",\n", "    {\"name\": ", json::quote(r.models[i].name),
                   ", \"state\": ", json::quote(r.models[i].state), "}");
  print(text + (r.models.empty() ? "]\n}\n" : "\n  ]\n}\n"));
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("doctor", "Tell what this machine is and what moxie will use of it");
  command->add_flag("--measure", options->measure,
                    "Also measure reading and arithmetic (1.25 GiB of memory, about a second)");
  command->add_flag("--json", options->json, "For programs");
  add_thread_option(*command, options->machine);
  add_precision_option(*command, options->machine);
  command->footer(
      "Examples:\n"
      "  moxie doctor\n"
      "  moxie doctor --measure --json");
  command->callback([options] {
    const Report report = examine(*options);
    if (options->json)
      print_json(report, options->measure);
    else
      print_text(report, options->measure);
  });
}

}  // namespace moxie::cli
