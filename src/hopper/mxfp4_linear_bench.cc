// linear_bench: time of one MXFP4 linear, cold: a CUDA graph over enough different weights to pass
// the L2 ten times, median of its runs; and of prepack, unpack, quantize_mxfp4 and
// dequantize_mxfp4. A line each on standard output; --json FILE and --commit ID keep them.
//
//   --shape N K     one shape only
//   --rows M        one number of rows only
//   --all-configs   every configuration that may suit, fewer runs
//   --wgmma-only    of them those of linear_wgmma
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "cuda/device.h"
#include "hopper/bench_support.h"
#include "hopper/mxfp4_linear.h"
#include "hopper/prepack.h"
#include "hopper/quantize.h"
#include "hopper/test_support.h"
#include "mxfp4/block.h"

namespace moxie::hopper {
namespace {

struct Choice {
  int n = 0, k = 0, rows = 0;  // 0: all
  bool all_configs = false, wgmma_only = false;
};

constexpr double kColdBytes = 640e6;
constexpr double kTflops = 670;  // of cuBLAS in bf16, sustained (docs/measured.md)

// Random weights, copied `matrices` times: zeros would run faster.
struct Weights {
  size_t code_bytes, scale_bytes;
  int matrices;
  cuda::DeviceBuffer<uint8_t> codes, scales;

  Weights(int n, int k)
      : code_bytes(static_cast<size_t>(n) * static_cast<size_t>(k / 2)),
        scale_bytes(static_cast<size_t>(n) * static_cast<size_t>(k / mxfp4::kBlock)),
        matrices(std::max(16, static_cast<int>(kColdBytes / bytes()))),
        codes(code_bytes * static_cast<size_t>(matrices)),
        scales(scale_bytes * static_cast<size_t>(matrices)) {
    const cuda::DeviceBuffer<uint8_t> one_codes(random_bytes(code_bytes, 1, 0, 255));
    const cuda::DeviceBuffer<uint8_t> one_scales(random_bytes(scale_bytes, 2, 118, 127));
    for (int m = 0; m < matrices; ++m) {
      MOXIE_CUDA_CHECK(
          cudaMemcpy(codes_of(m), one_codes.data(), code_bytes, cudaMemcpyDeviceToDevice));
      MOXIE_CUDA_CHECK(
          cudaMemcpy(scales_of(m), one_scales.data(), scale_bytes, cudaMemcpyDeviceToDevice));
    }
  }
  double bytes() const { return static_cast<double>(code_bytes + scale_bytes); }
  uint8_t* codes_of(int m) const { return codes.data() + static_cast<size_t>(m) * code_bytes; }
  uint8_t* scales_of(int m) const { return scales.data() + static_cast<size_t>(m) * scale_bytes; }
};

std::vector<LinearConfig> configs_for(int rows, int n, int k, int num_sms, const Choice& choice) {
  std::vector<LinearConfig> configs = {select_mxfp4_linear_config(rows, n, k, num_sms)};
  if (!choice.all_configs) return configs;
  if (rows <= 16 && !choice.wgmma_only)
    for (const int strips : {1, 2})
      for (const int cluster : {1, 2, 4})
        for (const int parts_of_cta : {1, 2, 3, 4, 5, 8, 16})
          for (const int slot_steps : {3, 5, 9}) {
            LinearConfig config;
            LinearStreamConfig& c = config.stream;
            c.strips_per_warp = strips, c.cluster = cluster, c.parts = cluster * parts_of_cta;
            c.slot_steps = slot_steps;
            if (c.parts > k / 64) continue;
            c = linear_stream_config(c, rows, n, k, num_sms, 227 * 1024);
            if (c.slots >= 2) configs.push_back(config);
          }
  for (const LinearWgmmaConfig& wgmma : linear_wgmma_configs(rows, n, k, num_sms)) {
    // Those that waste most of their work on rows that are not there, or on other CTAs' rows.
    if (wgmma.tile_rows >= 2 * std::max(rows, 16)) continue;
    if (wgmma.tile_rows < 64 && rows > 4 * wgmma.tile_rows) continue;
    LinearConfig config;
    config.kernel = LinearConfig::Kernel::kWgmma;
    config.wgmma = wgmma;
    configs.push_back(config);
  }
  if (choice.wgmma_only) return configs;
  for (const int tile_rows : {16, 32, 48, 64, 96, 128, 160, 192}) {
    if (tile_rows > std::max(16, (rows + 31) / 32 * 32)) continue;
    LinearConfig config;
    config.kernel = LinearConfig::Kernel::kGrouped;
    config.grouped = grouped_gemm_config(
        tile_rows > 48 ? GroupedGemmTiles::kManyRows : GroupedGemmTiles::kThreeGroups, tile_rows, k,
        0, num_sms);
    configs.push_back(config);
  }
  return configs;
}

void bench_linear(const Weights& weights, int n, int k, const Choice& choice, cudaStream_t stream,
                  int num_sms, BenchReport& report) {
  constexpr int kMostRows = 4096;
  const cuda::DeviceBuffer<bf16> x(random_bf16(size_t{kMostRows} * static_cast<size_t>(k), 3));
  const cuda::DeviceBuffer<bf16> out(size_t{kMostRows} * static_cast<size_t>(n));
  for (const int rows : {1, 4, 16, 64, 256, 1024, kMostRows}) {
    if (choice.rows != 0 && choice.rows != rows) continue;
    for (const LinearConfig& config : configs_for(rows, n, k, num_sms, choice))
      for (const bool overlap : {false, true}) {
        if (overlap && config.kernel == LinearConfig::Kernel::kGrouped) continue;
        const double us =
            median_us(stream,
                      choice.all_configs ? 5
                      : rows > 256       ? 11
                                         : 21,
                      [&] {
                        for (int m = 0; m < weights.matrices; ++m) {
                          LinearStreamArgs args;
                          args.x = x.data(), args.out = out.data();
                          args.codes = weights.codes_of(m), args.scales = weights.scales_of(m);
                          args.rows = rows, args.n = n, args.k = k;
                          args.x_stride = k, args.out_stride = n;
                          MOXIE_CUDA_CHECK(launch_mxfp4_linear(args, config, overlap, stream));
                        }
                      }) /
            weights.matrices;
        const double flops = 2.0 * rows * n * k;
        report.add({"mxfp4_linear",
                    {{"rows", rows}, {"n", n}, {"k", k}},
                    (overlap ? "overlapping launches, " : "") + to_string(config),
                    us,
                    weights.bytes(),
                    flops,
                    std::max(cold_read_us(weights.bytes()), flops / (kTflops * 1e6)),
                    0});
      }
  }
}

void bench_weights(const Weights& weights, int n, int k, cudaStream_t stream, BenchReport& report) {
  const double bytes = weights.bytes() * weights.matrices;
  const auto add = [&](const char* operation, const char* variant, double moved, double target_us,
                       const std::function<void()>& enqueue) {
    report.add({operation,
                {{"matrices", weights.matrices}, {"n", n}, {"k", k}},
                variant,
                median_us(stream, 11, enqueue),
                moved,
                0,
                cold_read_us(moved),
                target_us});
  };
  for (const PrepackDirection direction : {PrepackDirection::kPrepack, PrepackDirection::kUnpack})
    add(direction == PrepackDirection::kPrepack ? "prepack" : "unpack", "read and written",
        2 * bytes, 2 * bytes / 1e6, [&] {
          MOXIE_CUDA_CHECK(launch_prepack(
              {direction, weights.codes.data(), weights.scales.data(), weights.matrices, n, k},
              stream));
        });
  const int64_t blocks = int64_t{weights.matrices} * n * (k / mxfp4::kBlock);
  const cuda::DeviceBuffer<bf16> values(static_cast<size_t>(blocks) * mxfp4::kBlock);
  const double moved = static_cast<double>(values.bytes()) + bytes;
  add("dequantize_mxfp4", "read and written", moved, 0, [&] {
    MOXIE_CUDA_CHECK(launch_dequantize(
        {weights.codes.data(), weights.scales.data(), values.data(), blocks}, stream));
  });
  add("quantize_mxfp4", "read and written, round_up", moved, 0, [&] {
    MOXIE_CUDA_CHECK(launch_quantize({values.data(), weights.codes.data(), weights.scales.data(),
                                      blocks, mxfp4::ScaleRule::kRoundUp},
                                     stream));
  });
}

}  // namespace
}  // namespace moxie::hopper

int main(int argc, char** argv) {
  using namespace moxie;
  if (const std::string why = hopper::why_no_hopper(); !why.empty()) {
    std::fprintf(stderr, "linear_bench: nothing was measured: %s\n", why.c_str());
    return 1;
  }
  try {
    hopper::Choice choice;
    std::vector<char*> rest = {argv[0]};
    for (int i = 1; i < argc; ++i) {
      const std::string flag = argv[i];
      if (flag == "--all-configs") {
        choice.all_configs = true;
      } else if (flag == "--wgmma-only") {
        choice.wgmma_only = true;
      } else if (flag == "--rows" && i + 1 < argc) {
        choice.rows = std::atoi(argv[++i]);
      } else if (flag == "--shape" && i + 2 < argc) {
        choice.n = std::atoi(argv[++i]);
        choice.k = std::atoi(argv[++i]);
      } else {
        rest.push_back(argv[i]);
      }
    }
    hopper::BenchReport report(static_cast<int>(rest.size()), rest.data());
    int num_sms = 0;
    MOXIE_CUDA_CHECK(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, 0));
    MOXIE_CUDA_CHECK(hopper::prepare_linear_stream());
    MOXIE_CUDA_CHECK(hopper::prepare_linear_wgmma());
    MOXIE_CUDA_CHECK(hopper::prepare_grouped_gemm());
    const cuda::Stream stream;
    for (const auto& [n, k] : {std::pair{2880, 2880}, {5760, 2880}, {8192, 8192}}) {
      if (choice.n != 0 && (choice.n != n || choice.k != k)) continue;
      const hopper::Weights weights(n, k);
      hopper::bench_linear(weights, n, k, choice, stream.get(), num_sms, report);
      if (choice.rows == 0 && !choice.all_configs)
        hopper::bench_weights(weights, n, k, stream.get(), report);
    }
    report.write();
  } catch (const Error& error) {
    std::fprintf(stderr, "linear_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
