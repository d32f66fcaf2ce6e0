// What the benchmarks of GPU kernels share: medians of CUDA graphs, one line for people and one in
// a JSON file for later for each measurement. Benchmark code only.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "cuda/device.h"

namespace moxie::hopper {

// Median time of what `enqueue` puts on `stream`, captured once as a graph; 3 more runs before.
inline double median_us(cudaStream_t stream, int runs, const std::function<void()>& enqueue) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  MOXIE_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue();
  MOXIE_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  MOXIE_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
  cudaEvent_t begin, end;
  MOXIE_CUDA_CHECK(cudaEventCreate(&begin));
  MOXIE_CUDA_CHECK(cudaEventCreate(&end));
  std::vector<float> times;
  for (int run = 0; run < runs + 3; ++run) {
    MOXIE_CUDA_CHECK(cudaEventRecord(begin, stream));
    MOXIE_CUDA_CHECK(cudaGraphLaunch(executable, stream));
    MOXIE_CUDA_CHECK(cudaEventRecord(end, stream));
    MOXIE_CUDA_CHECK(cudaEventSynchronize(end));
    float ms = 0;
    MOXIE_CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
    if (run >= 3) times.push_back(ms * 1000);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Time that memory needs for a cold read of `bytes` by one kernel of a graph on an H200, measured;
// between the measured sizes by straight lines (docs/measured.md).
inline double cold_read_us(double bytes) {
  constexpr std::pair<double, double> kMeasured[] = {
      {0, 2.6}, {13.2e6, 5.3}, {26.4e6, 8.0}, {52.9e6, 13.4}, {105.8e6, 25.2}, {423e6, 95.1}};
  size_t i = 1;
  while (i + 1 < std::size(kMeasured) && kMeasured[i].first < bytes) ++i;
  const auto [x0, y0] = kMeasured[i - 1];
  const auto [x1, y1] = kMeasured[i];
  return y0 + (bytes - x0) * (y1 - y0) / (x1 - x0);
}

// One measurement. 0: there is no such figure.
struct BenchLine {
  std::string operation;                              // "mxfp4_linear"
  std::vector<std::pair<std::string, double>> sizes;  // {"rows", 1}, {"n", 2880} ...
  std::string variant;                                // configuration, in words
  double us = 0;                                      // median
  double bytes = 0, flops = 0, limit_us = 0, target_us = 0;
};

// Collects lines, prints each, and with `--json FILE [--commit ID]` writes them at the end.
class BenchReport {
 public:
  // Throws Error(kInvalidArgument) for other arguments.
  BenchReport(int argc, char** argv) {
    for (int i = 1; i < argc; i += 2) {
      const std::string flag = argv[i];
      MOXIE_CHECK(i + 1 < argc && (flag == "--json" || flag == "--commit"), kInvalidArgument,
                  "expected --json FILE and --commit ID, got ", flag);
      (flag == "--json" ? path_ : commit_) = argv[i + 1];
    }
  }

  void add(const BenchLine& line) {
    std::string sizes;
    for (const auto& [name, value] : line.sizes) sizes += " " + name + " " + number(value);
    std::printf("%s%s: %.2f us", line.operation.c_str(), sizes.c_str(), line.us);
    if (line.bytes > 0) std::printf(", %.2f TB/s", line.bytes / line.us / 1e6);
    if (line.flops > 0) std::printf(", %.0f TFLOP/s", line.flops / line.us / 1e6);
    if (line.limit_us > 0) std::printf(", %.0f %% of the limit", 100 * line.limit_us / line.us);
    if (line.target_us > 0)
      std::printf(", target %.4g us %s", line.target_us,
                  line.us <= line.target_us ? "met" : "MISSED");
    std::printf("%s%s\n", line.variant.empty() ? "" : "  ", line.variant.c_str());
    std::fflush(stdout);
    lines_.push_back(line);
  }

  // Throws Error(kDevice) or Error(kIo).
  void write() const {
    if (path_.empty()) return;
    cudaDeviceProp properties{};
    int driver = 0, runtime = 0;
    MOXIE_CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
    MOXIE_CUDA_CHECK(cudaDriverGetVersion(&driver));
    MOXIE_CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
    std::FILE* file = std::fopen(path_.c_str(), "w");
    MOXIE_CHECK(file != nullptr, kIo, "cannot write ", path_);
    std::fprintf(file,
                 "{\n  \"gpu\": %s,\n  \"sms\": %d,\n  \"driver_cuda\": %s,\n  \"cuda\": %s,\n  "
                 "\"commit\": %s,\n  \"results\": [",
                 json::quote(properties.name).c_str(), properties.multiProcessorCount,
                 json::quote(version(driver)).c_str(), json::quote(version(runtime)).c_str(),
                 json::quote(commit_).c_str());
    const char* separator = "\n";
    for (const BenchLine& line : lines_) {
      std::fprintf(file, "%s    {\"operation\": %s", separator,
                   json::quote(line.operation).c_str());
      for (const auto& [name, value] : line.sizes)
        std::fprintf(file, ", %s: %s", json::quote(name).c_str(), number(value).c_str());
      std::fprintf(file, ", \"variant\": %s", json::quote(line.variant).c_str());
      for (const auto& [name, value] : {std::pair{"us", line.us},
                                        {"bytes", line.bytes},
                                        {"flops", line.flops},
                                        {"limit_us", line.limit_us},
                                        {"target_us", line.target_us}})
        if (value > 0) std::fprintf(file, ", \"%s\": %s", name, number(value).c_str());
      std::fprintf(file, "}");
      separator = ",\n";
    }
    std::fprintf(file, "\n  ]\n}\n");
    MOXIE_CHECK(std::fclose(file) == 0, kIo, "cannot write ", path_);
  }

 private:
  static std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", value);
    return text;
  }
  static std::string version(int v) {
    return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
  }

  std::string path_, commit_;
  std::vector<BenchLine> lines_;
};

}  // namespace moxie::hopper
