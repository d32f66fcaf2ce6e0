// The kernels behind linear and moe on one core, without threads, routing and what follows a
// product. Not a test: run it by hand.
//
//   kernel_bench [instruction set ...]
//
// Each figure is the least of many short runs, taken in turn with all the others: on a shared
// machine a neighbour slows whole seconds, but seldom all of a line's runs. "hot" weights are in
// L2, "cold" ones come from memory. Decode in GB/s of weights, prefill in shares of this core's
// peak.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/memory.h"
#include "cpu/isa.h"
#include "cpu/limits.h"
#include "cpu/matmul_kernels.h"
#include "cpu/matmul_prefill.h"
#include "ops/reference/random.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kK = 2880, kBlocks = kK / 32, kFeatures = 384;
constexpr int64_t kColdFeatures = 1 << 18;  // 400 MB of MXFP4, 1.5 GB of bf16
constexpr int64_t kColdTask = 1920;         // features, of prefill
constexpr int64_t kDenseFeatures = 48;      // a task of linear's decode
constexpr int kRounds = 12;

struct Line {
  std::string name;
  double units;    // bytes or flops of a run
  int64_t blocks;  // of weights in it
  bool is_decode;
  std::function<void()> run;
  double seconds = 1e9;
};

class Bench {
 public:
  explicit Bench(Isa isa)
      : kernels_(matmul_kernels(isa)),
        codes_(static_cast<size_t>(kColdFeatures * kBlocks * 16)),
        scales_(static_cast<size_t>(kColdFeatures * kBlocks)),
        dense_(static_cast<size_t>(kColdFeatures * kK * 2)),
        x_(static_cast<size_t>(kMaxTaskGroups * group_pairs(kK) * 4)),
        rows_(static_cast<size_t>(2 * kMaxDotRows * row_bytes())),
        panel_(static_cast<size_t>(kernels_.rows_memory_bytes + kernels_.features_per_task *
                                                                    kernels_.k_chunk *
                                                                    kernels_.panel_element_bytes)),
        sums_(static_cast<size_t>(kernels_.features_per_task * kMaxTaskGroups * kGroup * 4)) {
    for (size_t i = 0; i < codes_.size_bytes() / 8; ++i)
      codes_.as<uint64_t>()[i] = random_bits(1, i);
    for (size_t i = 0; i < scales_.size_bytes(); ++i)
      scales_.data()[i] = static_cast<uint8_t>(118 + random_bits(2, i) % 4);
    std::vector<bf16> numbers(4099);
    fill_normal(std::span(numbers), 3);
    for (PageBuffer* buffer : {&dense_, &x_})
      for (size_t i = 0; i < buffer->size_bytes() / 2; ++i)
        buffer->as<bf16>()[i] = numbers[i % numbers.size()];
    for (int64_t r = 0; r < kMaxTaskRows; ++r) token_rows_[r] = x_.as<uint16_t>().data() + r * kK;
    for (int64_t r = 0; r < kMaxDotRows; ++r) {
      kernels_.prepare_mxfp4(x_.as<uint16_t>().data() + r * kK, kK, row(r));
      kernels_.prepare_dense(x_.as<uint16_t>().data() + r * kK, kK, dense_row(r));
    }
  }

  void run() {
    const double peak = [&] {
      ThreadPool alone(1);
      return measure_peak_flops(alone, *parse_isa(kernels_.name));
    }();
    std::vector<Line> lines;
    for (const bool cold : {false, true}) {
      const char* where = cold ? "cold" : "hot";
      for (const bool is_mxfp4 : {true, false})
        for (const int rows : {1, 2, 4})
          lines.push_back({std::string("decode ") + (is_mxfp4 ? "mxfp4, " : "bf16, ") +
                               std::to_string(rows) + " rows, " + where,
                           kFeatures * kBlocks * (is_mxfp4 ? 17.0 : 64.0), kFeatures * kBlocks,
                           true, [=, this] { decode(is_mxfp4, rows, cold); }});
      for (const bool is_mxfp4 : {true, false})
        for (const int64_t groups : {1, 3, 4, 5, 8, 16})
          lines.push_back({std::string("prefill ") + (is_mxfp4 ? "mxfp4, " : "bf16, ") +
                               std::to_string(groups * kGroup) + " tokens, " + where,
                           2.0 * static_cast<double>(task(cold) * kK * groups * kGroup),
                           task(cold) * kBlocks, false,
                           [=, this] { prefill(is_mxfp4, groups, cold); }});
    }
    const double reading = [&] {
      ThreadPool alone(1);
      return measure_read_bandwidth(alone);
    }();
    for (int round = 0; round < kRounds; ++round) {
      for (Line& line : lines) {
        for (int repeat = 0; repeat < 3; ++repeat) {
          const auto begin = std::chrono::steady_clock::now();
          line.run();
          const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
          line.seconds = std::min(line.seconds, took.count());
        }
      }
    }
    std::printf("%s, one core: peak %.0f GFLOP/s, reads %.1f GB/s\n", kernels_.name, peak * 1e-9,
                reading * 1e-9);
    for (const Line& line : lines) {
      const auto blocks = static_cast<double>(line.blocks);
      std::printf("  %-34s %8.2f ns a block of weights  ", line.name.c_str(),
                  line.seconds / blocks * 1e9);
      if (line.is_decode)
        std::printf("%6.1f GB/s\n", line.units / line.seconds * 1e-9);
      else
        std::printf("%6.1f %% of peak\n", 100 * line.units / line.seconds / peak);
    }
  }

 private:
  void* dense_row(int64_t r) { return row(kMaxDotRows + r); }
  int64_t row_bytes() const { return kK * kernels_.x_element_bytes + kernels_.x_extra_bytes; }
  void* row(int64_t r) { return rows_.data() + r * row_bytes(); }
  static int64_t task(bool cold) { return cold ? kColdTask : kFeatures; }
  int64_t next_feature(bool cold) {
    if (!cold) return 0;
    at_ = at_ + 2 * kColdTask > kColdFeatures ? 0 : at_ + kColdTask;
    return at_;
  }

  // In pieces as linear and moe take them.
  void decode(bool is_mxfp4, int rows, bool cold) {
    const void* x[kMaxDotRows] = {};
    for (int r = 0; r < rows; ++r) x[r] = is_mxfp4 ? row(r) : dense_row(r);
    const int64_t first = next_feature(cold);
    const int64_t step = is_mxfp4 ? std::min(kernels_.features_per_dot, kFeatures) : kDenseFeatures;
    for (int64_t f = 0; f < kFeatures; f += step) {
      const int64_t at = first + f, count = std::min(step, kFeatures - f);
      if (is_mxfp4)
        kernels_.dot_mxfp4(codes_.data() + at * kBlocks * 16, scales_.data() + at * kBlocks, count,
                           kK, x, rows, z_ + f, kFeatures);
      else
        kernels_.dot_dense(dense_.as<uint16_t>().data() + at * kK, count, kK, x, rows, z_ + f,
                           kFeatures);
    }
  }

  void prefill(bool is_mxfp4, int64_t groups, bool cold) {
    const int64_t first = next_feature(cold), features = task(cold);
    for (int64_t begin = 0; begin < features; begin += kernels_.features_per_task) {
      const int64_t f = first + begin;
      PanelSource source;
      source.weights = is_mxfp4 ? codes_.data() + f * kBlocks * 16 : dense_.data() + f * kK * 2;
      source.scales = is_mxfp4 ? scales_.data() + f * kBlocks : nullptr;
      source.stride = is_mxfp4 ? kBlocks : kK;
      source.k = kK;
      source.features = std::min(kernels_.features_per_task, features - begin);
      source.is_first = begin == 0;
      source.following = features - begin - source.features;
      if (kernels_.multiply_rows)
        kernels_.multiply_rows(source, token_rows_, groups * kGroup, panel_.data(),
                               sums_.as<float>().data());
      else
        multiply_range(kernels_, source, x_.as<uint32_t>().data(), groups, panel_.data(),
                       sums_.as<float>().data());
    }
  }

  const MatmulKernels& kernels_;
  PageBuffer codes_, scales_, dense_, x_, rows_, panel_, sums_;
  const uint16_t* token_rows_[kMaxTaskRows];
  float z_[kMaxDotRows * kFeatures];
  int64_t at_ = 0;
};

int run(int argc, char** argv) {
  std::vector<Isa> isas;
  for (int i = 1; i < argc; ++i)
    if (const auto isa = parse_isa(argv[i]); isa && *isa <= best_isa()) isas.push_back(*isa);
  if (isas.empty()) isas = usable_isas();
  std::printf("%s\n", describe_cpu().model_name.c_str());
  for (const Isa isa : isas) Bench(isa).run();
  return 0;
}

}  // namespace
}  // namespace moxie::cpu

int main(int argc, char** argv) { return moxie::cpu::run(argc, argv); }
