// hopper_bench: time of one MXFP4 linear, cold: a CUDA graph over enough different weights to pass
// the L2 ten times, median of its runs; and of prepack and unpack. A table on standard output.
#include <algorithm>
#include <cstdio>

#include "cuda/device.h"
#include "hopper/bench_support.h"
#include "hopper/linear_stream.h"
#include "hopper/prepack.h"
#include "hopper/test_support.h"

namespace moxie::hopper {
namespace {

void bench_shape(int n, int k, cudaStream_t stream, int num_sms, BenchReport& report) {
  const int64_t bytes = int64_t{n} * k * 17 / 32;
  const int matrices = static_cast<int>(std::max<int64_t>(16, 640'000'000 / bytes));
  // One random matrix, copied: zeros would run faster.
  const auto code_bytes = static_cast<size_t>(n) * static_cast<size_t>(k / 2);
  const auto scale_bytes = static_cast<size_t>(n) * static_cast<size_t>(k / 32);
  const cuda::DeviceBuffer<uint8_t> codes(code_bytes * static_cast<size_t>(matrices));
  const cuda::DeviceBuffer<uint8_t> scales(scale_bytes * static_cast<size_t>(matrices));
  const std::vector<uint8_t> one_codes = random_bytes(code_bytes, 1, 0, 255);
  const std::vector<uint8_t> one_scales = random_bytes(scale_bytes, 2, 118, 127);
  for (size_t m = 0; m < static_cast<size_t>(matrices); ++m) {
    MOXIE_CUDA_CHECK(cudaMemcpy(codes.data() + m * code_bytes, one_codes.data(), code_bytes,
                                cudaMemcpyHostToDevice));
    MOXIE_CUDA_CHECK(cudaMemcpy(scales.data() + m * scale_bytes, one_scales.data(), scale_bytes,
                                cudaMemcpyHostToDevice));
  }
  const cuda::DeviceBuffer<bf16> x(random_bf16(static_cast<size_t>(16 * k), 3));
  const cuda::DeviceBuffer<bf16> out(static_cast<size_t>(16 * n));
  for (const int rows : {1, 4, 8, 16}) {
    if (!supports_linear_stream(rows, n, k)) continue;
    const LinearStreamConfig config = select_linear_stream_config(rows, n, k, num_sms);
    for (const bool overlap : {false, true}) {
      const double us =
          median_us(stream, 21,
                    [&] {
                      for (size_t m = 0; m < static_cast<size_t>(matrices); ++m) {
                        LinearStreamArgs args;
                        args.x = x.data(), args.out = out.data();
                        args.codes = codes.data() + m * code_bytes,
                        args.scales = scales.data() + m * scale_bytes;
                        args.rows = rows, args.n = n, args.k = k;
                        args.x_stride = k, args.out_stride = n;
                        MOXIE_CUDA_CHECK(launch_linear_stream(args, config, overlap, stream));
                      }
                    }) /
          matrices;
      report.add({"mxfp4_linear",
                  {{"rows", rows}, {"n", n}, {"k", k}},
                  (overlap ? "overlapping launches, " : "") + to_string(config),
                  us,
                  static_cast<double>(bytes),
                  2.0 * rows * n * k,
                  cold_read_us(static_cast<double>(bytes)),
                  n == 8192 ? 13.0 : 0.0});
    }
  }
  for (const PrepackDirection direction : {PrepackDirection::kPrepack, PrepackDirection::kUnpack}) {
    const double us = median_us(stream, 11, [&] {
      MOXIE_CUDA_CHECK(
          launch_prepack({direction, codes.data(), scales.data(), matrices, n, k}, stream));
    });
    const double moved = 2.0 * static_cast<double>(bytes) * matrices;
    report.add({direction == PrepackDirection::kPrepack ? "prepack" : "unpack",
                {{"matrices", matrices}, {"n", n}, {"k", k}},
                "read and written",
                us,
                moved,
                0,
                cold_read_us(moved),
                moved / 1e6});
  }
}

}  // namespace
}  // namespace moxie::hopper

int main(int argc, char** argv) {
  using namespace moxie;
  if (const std::string why = hopper::why_no_hopper(); !why.empty()) {
    std::fprintf(stderr, "hopper_bench: nothing was measured: %s\n", why.c_str());
    return 1;
  }
  try {
    hopper::BenchReport report(argc, argv);
    int num_sms = 0;
    MOXIE_CUDA_CHECK(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, 0));
    MOXIE_CUDA_CHECK(hopper::prepare_linear_stream());
    const cuda::Stream stream;
    for (const auto& [n, k] : {std::pair{2880, 2880}, {5760, 2880}, {8192, 8192}})
      hopper::bench_shape(n, k, stream.get(), num_sms, report);
    report.write();
  } catch (const Error& error) {
    std::fprintf(stderr, "hopper_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
