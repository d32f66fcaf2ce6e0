// moe_grouped_bench: time of a whole experts block, routing included, cold: a CUDA graph over the
// weights of many layers, median of its runs, with bf16 and with e4m3 activations, few rows in both
// forms (moe_grouped.h and moe_stream.h); and how far all are from float64 with nothing rounded. A
// table, and JSON with --json FILE [--commit ID]; less with --experts 32|128, --rows N, --layers N,
// --activations bf16|fp8, --stream-only and --no-errors, more with --all-configs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/bench_support.h"
#include "hopper/moe_exact.cuh"
#include "hopper/moe_grouped.h"
#include "hopper/moe_stream.h"
#include "hopper/test_support.h"

namespace moxie::hopper {
namespace {

constexpr int kHidden = 2880, kExpertsPerToken = 4;

// Random bytes low .. high, different in every place.
__global__ void fill(uint8_t* bytes, int64_t size, uint32_t seed, int low, int high) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += step) {
    uint32_t h = static_cast<uint32_t>(i) * 2654435761u ^ static_cast<uint32_t>(i >> 32) ^ seed;
    h ^= h >> 16, h *= 0x7feb352du, h ^= h >> 15, h *= 0x846ca68bu, h ^= h >> 16;
    bytes[i] = static_cast<uint8_t>(low + h % static_cast<uint32_t>(high - low + 1));
  }
}

cuda::DeviceBuffer<uint8_t> random_device_bytes(int64_t size, uint32_t seed, int low, int high) {
  cuda::DeviceBuffer<uint8_t> bytes(static_cast<size_t>(size));
  fill<<<1024, 256>>>(bytes.data(), size, seed, low, high);
  MOXIE_CUDA_CHECK(cudaDeviceSynchronize());
  return bytes;
}

// What to measure besides the table of all sizes.
struct Choice {
  int only_experts = 0, only_rows = 0;  // 0: all
  int layers = 16;
  bool all_configs = false, grouped = true, errors = true, bf16 = true, fp8 = true;
};

int layers_of(const std::string& text) {
  const int layers = std::atoi(text.c_str());
  MOXIE_CHECK(layers >= 1 && layers <= 64, kInvalidArgument, "--layers must be 1 to 64, not ",
              text);
  return layers;
}

void choose_activations(const std::string& text, Choice& choice) {
  MOXIE_CHECK(text == "bf16" || text == "fp8", kInvalidArgument,
              "--activations must be bf16 or fp8, not ", text);
  choice.bf16 = text == "bf16", choice.fp8 = text == "fp8";
}

struct Row {
  int rows;
  double limit_us, target_us, fp8_target_us = 0;
};

// Of the experts that uniform routing hits, on average.
double bytes_touched(int rows, int experts) {
  const double hit = experts * (1 - std::pow(1 - 4.0 / experts, rows));
  return hit * 3 * kHidden * kHidden * 17 / 32;
}

using Shape = GroupedGemmTiles;
constexpr std::pair<Shape, int> kAllConfigs[] = {
    {Shape::kEightWarps, 8},   {Shape::kEightWarps, 16},   {Shape::kEightWarps, 32},
    {Shape::kFourGroups, 16},  {Shape::kFourGroups, 24},   {Shape::kFourGroups, 32},
    {Shape::kThreeGroups, 16}, {Shape::kThreeGroups, 32},  {Shape::kThreeGroups, 48},
    {Shape::kMoreRows, 48},    {Shape::kMoreRows, 64},     {Shape::kMoreRows, 80},
    {Shape::kMoreRows, 96},    {Shape::kManyRows, 128},    {Shape::kManyRows, 192},
    {Shape::kFp8OneTile, 64},  {Shape::kFp8ManyRows, 192}, {Shape::kFp8TwoChains, 320}};

void bench(BenchReport& report, const Choice& choice, int experts, const std::vector<Row>& rows,
           cudaStream_t stream, int num_sms) {
  if (choice.only_experts != 0 && choice.only_experts != experts) return;
  const int layers = choice.layers;
  const int64_t matrix = int64_t{experts} * kHidden * kHidden;
  const auto up_codes = random_device_bytes(layers * matrix, 1, 0, 255);
  const auto up_scales = random_device_bytes(layers * matrix / 16, 2, 117, 122);
  const auto down_codes = random_device_bytes(layers * matrix / 2, 3, 0, 255);
  const auto down_scales = random_device_bytes(layers * matrix / 32, 4, 117, 122);
  const cuda::DeviceBuffer<float> bias(
      std::vector<float>(static_cast<size_t>(experts) * 2 * kHidden, 0.25f));
  int64_t most = 0;
  for (const Row& row : rows) most = std::max<int64_t>(most, row.rows);
  const cuda::DeviceBuffer<bf16> x(random_bf16(static_cast<size_t>(most * kHidden), 5));
  const cuda::DeviceBuffer<bf16> out(static_cast<size_t>(most * kHidden));
  const cuda::DeviceBuffer<bf16> logits(random_bf16(static_cast<size_t>(2 * most * experts), 6));
  for (const Row& row : rows) {
    if (choice.only_rows != 0 && choice.only_rows != row.rows) continue;
    MoeGroupedArgs args;
    args.sizes = {row.rows, kHidden, kHidden, experts, experts, 0, kExpertsPerToken};
    args.x = x.data(), args.x_stride = kHidden, args.logits_stride = experts;
    args.gate_up_bias = bias.data(), args.down_bias = bias.data();
    args.out = out.data(), args.out_stride = kHidden;
    std::vector<GroupedGemmConfig> configs;
    if (choice.bf16) configs.push_back(select_moe_grouped_config(args.sizes, num_sms));
    if (choice.fp8)
      configs.push_back(select_moe_grouped_config(args.sizes, num_sms, Activations::kFp8));
    if (choice.all_configs)
      for (const auto& [shape, tile_rows] : kAllConfigs)
        if (row.rows * 4 / experts < 2 * tile_rows &&
            (tile_rows <= 16 || row.rows * 4 / experts * 8 >= tile_rows) &&
            (is_fp8(shape) ? choice.fp8 : choice.bf16))
          configs.push_back(grouped_gemm_config(shape, tile_rows, kHidden, kHidden, num_sms));
    const auto measure = [&](const std::string& variant, bool fp8, int64_t workspace_bytes,
                             const std::function<cudaError_t(void*)>& launch) {
      const cuda::DeviceBuffer<uint8_t> workspace(
          std::vector<uint8_t>(static_cast<size_t>(workspace_bytes)));
      const double us =
          median_us(stream, row.rows > 2048 ? 5 : 11,
                    [&] {
                      for (int layer = 0; layer < layers; ++layer) {
                        // Other logits in every layer.
                        args.logits = logits.data() + int64_t{layer} * row.rows * experts %
                                                          ((2 * most - row.rows + 1) * experts);
                        args.gate_up_codes = up_codes.data() + layer * matrix;
                        args.gate_up_scales = up_scales.data() + layer * (matrix / 16);
                        args.down_codes = down_codes.data() + layer * (matrix / 2);
                        args.down_scales = down_scales.data() + layer * (matrix / 32);
                        MOXIE_CUDA_CHECK(launch(workspace.data()));
                      }
                    }) /
          layers;
      BenchLine line;
      line.operation = "moe";
      line.sizes = {{"rows", row.rows}, {"experts", experts}};
      line.variant = variant;
      line.us = us;
      line.bytes = bytes_touched(row.rows, experts);
      line.flops = 6.0 * row.rows * kExpertsPerToken * kHidden * kHidden;
      line.limit_us = fp8 ? 0 : row.limit_us;
      line.target_us = fp8 ? row.fp8_target_us : row.target_us;
      report.add(line);
    };
    if (choice.grouped)
      for (const GroupedGemmConfig& config : configs) {
        const int64_t bytes = moe_grouped_workspace_bytes(args.sizes, config);
        measure(to_string(config), is_fp8(config.shape), bytes, [&](void* workspace) {
          return launch_moe_grouped(args, config, workspace, stream);
        });
        if (!choice.errors) continue;
        const cuda::DeviceBuffer<uint8_t> workspace(static_cast<size_t>(bytes));
        print_error(args, config, workspace.data(), stream);
      }
    std::vector<MoeStreamOptions> streams = {{}};
    if (choice.all_configs)
      streams = {{}, {16, 32, 0}, {16, 24, 0}, {14, 28, 0}, {12, 32, 0}, {12, 12, 0}};
    for (const MoeStreamOptions& options : streams) {
      const MoeStreamConfig config = select_moe_stream_config(args.sizes, num_sms, options);
      if (config.slots == 0 || !choice.bf16) continue;
      measure(to_string(config), false, moe_stream_workspace_bytes(args.sizes),
              [&](void* workspace) { return launch_moe_stream(args, config, workspace, stream); });
    }
    if (choice.errors && choice.fp8) print_rounding_errors(args, stream);
  }
}

}  // namespace
}  // namespace moxie::hopper

int main(int argc, char** argv) {
  using namespace moxie;
  if (const std::string why = hopper::why_no_hopper(); !why.empty()) {
    std::fprintf(stderr, "moe_grouped_bench: nothing was measured: %s\n", why.c_str());
    return 1;
  }
  try {
    hopper::Choice choice;
    std::vector<char*> rest = {argv[0]};
    for (int i = 1; i < argc; ++i) {
      const std::string flag = argv[i];
      if (flag == "--all-configs")
        choice.all_configs = true;
      else if (flag == "--stream-only")
        choice.grouped = false;
      else if (flag == "--no-errors")
        choice.errors = false;
      else if (flag == "--layers" && i + 1 < argc)
        choice.layers = hopper::layers_of(argv[++i]);
      else if (flag == "--activations" && i + 1 < argc)
        hopper::choose_activations(argv[++i], choice);
      else if (flag == "--experts" && i + 1 < argc)
        choice.only_experts = std::atoi(argv[++i]);
      else if (flag == "--rows" && i + 1 < argc)
        choice.only_rows = std::atoi(argv[++i]);
      else
        rest.push_back(argv[i]);
    }
    hopper::BenchReport report(static_cast<int>(rest.size()), rest.data());
    int num_sms = 0;
    MOXIE_CUDA_CHECK(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, 0));
    MOXIE_CUDA_CHECK(hopper::prepare_grouped_gemm());
    MOXIE_CUDA_CHECK(hopper::prepare_moe_stream());
    const cuda::Stream stream;
    hopper::bench(report, choice, 32,
                  {{1, 13.4, 17},
                   {4, 39, 52},
                   {16, 84, 105},
                   {64, 95, 120},
                   {128, 95, 130},
                   {256, 95, 145},
                   {512, 152, 210},
                   {1024, 304, 380, 290},
                   {4096, 1217, 1420, 880},
                   {8192, 2434, 2700},
                   {16384, 4868, 5300, 3300}},
                  stream.get(), num_sms);
    hopper::bench(report, choice, 128,
                  {{1, 13.4, 17},
                   {4, 47, 60},
                   {16, 155, 190},
                   {64, 328, 390},
                   {128, 373, 440},
                   {256, 380, 450},
                   {512, 380, 460},
                   {1024, 380, 490, 430},
                   {4096, 1217, 1450, 1000},
                   {8192, 2434, 2750},
                   {16384, 4868, 5300, 3300}},
                  stream.get(), num_sms);
    report.write();
  } catch (const Error& error) {
    std::fprintf(stderr, "moe_grouped_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
