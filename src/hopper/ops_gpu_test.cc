// The operations as a program calls them, on a GPU: against the oracles, in a graph, and what they
// say of pointers that lie elsewhere.
#include <gtest/gtest.h>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/linear_test_support.h"
#include "hopper/ops.h"
#include "hopper/test_support.h"
#include "ops/reference/random.h"

namespace moxie::hopper {
namespace {

class HopperOpsOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(HopperOpsOnGpu, PrepackThenLinearOfAnyNumberOfRows) {
  const cuda::Stream stream;
  for (const int64_t rows : {0, 1, 8, 16, 17, 40})
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{16, 32}, {80, 96}, {208, 1184}})
      for (const bool with_residual : {false, true}) {
        Linear p(rows, n, k);
        p.with_residual = with_residual;
        p.activation = with_residual || n % 32 != 0 ? Activation::kNone : Activation::kSwiglu;
        const OnDevice d(p);
        run_prepack(d.prepack(), stream.get());
        run_mxfp4_linear(d.args, {}, stream.get());
        stream.synchronize();
        expect_within(p, d.out.to_host());
      }
}

// Beyond 16 rows the rows are those of one expert of the grouped product.
TEST_F(HopperOpsOnGpu, LinearOfManyRowsAtTheEdgesOfTiles) {
  const cuda::Stream stream;
  const auto run = [&](const Linear& p) {
    const OnDevice d(p);
    run_prepack(d.prepack(), stream.get());
    run_mxfp4_linear(d.args, {}, stream.get());
    stream.synchronize();
    expect_within(p, d.out.to_host());
  };
  for (const int64_t rows : {17, 24, 25, 64, 65, 80, 81, 191, 192, 193, 1000}) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{16, 32}, {208, 608}, {400, 1184}}) {
      Linear p(rows, n, k);
      p.with_residual = n != 208;
      p.activation = n == 208 ? Activation::kSwiglu : Activation::kNone;
      run(p);
    }
  }
  for (const int64_t rows : {40, 200}) run(Linear(rows, 208, 608, 128));
  run(Linear(70, 2880, 2880));
}

// Nothing on the way allocates, waits or asks for what a capture forbids.
TEST_F(HopperOpsOnGpu, EveryLaunchAfterTheFirstCanBeCaptured) {
  const Linear p(20, 144, 544);
  const OnDevice plain(p), captured(p);
  const cuda::Stream stream;
  run_prepack(plain.prepack(), stream.get());
  run_mxfp4_linear(plain.args, {}, stream.get());
  stream.synchronize();

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  MOXIE_CUDA_CHECK(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal));
  run_prepack(captured.prepack(), stream.get());
  run_mxfp4_linear(captured.args, {}, stream.get());
  MOXIE_CUDA_CHECK(cudaStreamEndCapture(stream.get(), &graph));
  MOXIE_CUDA_CHECK(cudaGraphInstantiate(&ready, graph, 0));
  MOXIE_CUDA_CHECK(cudaGraphLaunch(ready, stream.get()));
  stream.synchronize();
  EXPECT_TRUE(captured.out.to_host() == plain.out.to_host());
  MOXIE_CUDA_CHECK(cudaGraphExecDestroy(ready));
  MOXIE_CUDA_CHECK(cudaGraphDestroy(graph));
}

TEST_F(HopperOpsOnGpu, QuantizeThenDequantizeGivesTheHostsBits) {
  constexpr int64_t kRows = 5, kK = 96;
  std::vector<bf16> values(kRows * kK), want(values.size());
  fill_normal(std::span(values), 61);
  std::vector<uint8_t> codes(values.size() / 2), scales(values.size() / 32);
  mxfp4::encode_row(values.data(), kRows * kK, mxfp4::ScaleRule::kFloor, codes.data(),
                    scales.data());
  mxfp4::decode_row(codes.data(), scales.data(), kRows * kK, want.data());
  const cuda::DeviceBuffer<bf16> from(values), back(values.size());
  const cuda::DeviceBuffer<uint8_t> d_codes(codes.size()), d_scales(scales.size());
  const cuda::Stream stream;
  run_quantize_mxfp4({{from.data(), DType::kBF16, kRows, kK, kK},
                      d_codes.data(),
                      d_scales.data(),
                      mxfp4::ScaleRule::kFloor},
                     stream.get());
  run_dequantize_mxfp4(
      {d_codes.data(), d_scales.data(), {back.data(), DType::kBF16, kRows, kK, kK}}, stream.get());
  stream.synchronize();
  EXPECT_TRUE(d_codes.to_host() == codes);
  EXPECT_TRUE(d_scales.to_host() == scales);
  EXPECT_TRUE(back.to_host() == want);
}

TEST_F(HopperOpsOnGpu, SayWhichPointerLiesInTheHostsMemory) {
  const Linear p(2, 16, 32);
  alignas(16) static bf16 host[64];
  const auto said = [&](const auto& spoil) {
    OnDevice d(p);
    spoil(d.args);
    try {
      run_mxfp4_linear(d.args, {}, nullptr);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(said([](Mxfp4LinearArgs& a) { a.x.data = host; }),
            "x of mxfp4_linear lies in the host's memory; it must lie on device 0");
  EXPECT_EQ(said([](Mxfp4LinearArgs& a) { a.out.data = host; }),
            "out of mxfp4_linear lies in the host's memory; it must lie on device 0");
  EXPECT_EQ(said([](Mxfp4LinearArgs& a) { a.bias = reinterpret_cast<float*>(host); }),
            "bias of mxfp4_linear lies in the host's memory; it must lie on device 0");
}

}  // namespace
}  // namespace moxie::hopper
