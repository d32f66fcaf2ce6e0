// The operations as a program calls them, on a GPU: against the oracles, in a graph, and what they
// say of pointers that lie elsewhere.
#include <gtest/gtest.h>

#include <cstring>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/ops.h"
#include "hopper/test_support.h"
#include "mxfp4/weight_layout.h"
#include "ops/reference/mxfp4_linear.h"
#include "ops/reference/random.h"

namespace moxie::hopper {
namespace {

using Activation = Mxfp4LinearArgs::Activation;

// One linear layer in the memory of the host, and with device() in that of the GPU.
struct Linear {
  int64_t rows, n, k;
  RandomMxfp4 weight;
  std::vector<bf16> x, residual;
  std::vector<float> bias;
  Activation activation = Activation::kNone;
  bool with_residual = false;

  Linear(int64_t num_rows, int64_t num_features, int64_t depth)
      : rows(num_rows),
        n(num_features),
        k(depth),
        weight(1, n, k, 51),
        x(static_cast<size_t>(rows * k)),
        residual(static_cast<size_t>(rows * n)),
        bias(static_cast<size_t>(n)) {
    fill_normal(std::span(x), 52);
    fill_normal(std::span(residual), 53);
    fill_normal(std::span(bias), 54);
  }
  int64_t out_cols() const { return activation == Activation::kSwiglu ? n / 2 : n; }

  Mxfp4LinearArgs args() const {
    Mxfp4LinearArgs args;
    args.x = {x.data(), DType::kBF16, rows, k, k};
    args.weight = weight.view;
    args.bias = bias.data();
    args.activation = activation;
    if (with_residual) args.residual = {residual.data(), DType::kBF16, rows, n, n};
    return args;
  }
};

struct OnDevice {
  cuda::DeviceBuffer<uint8_t> codes, scales;
  cuda::DeviceBuffer<bf16> x, residual, out;
  cuda::DeviceBuffer<float> bias;
  Mxfp4LinearArgs args;

  explicit OnDevice(const Linear& p)
      : codes(p.weight.codes),
        scales(p.weight.scales),
        x(p.x),
        residual(p.residual),
        out(std::vector<bf16>(static_cast<size_t>(p.rows * p.out_cols()), bf16{0x7fff})),
        bias(p.bias),
        args(p.args()) {
    args.x.data = x.data();
    args.weight.codes = codes.data();
    args.weight.scales = scales.data();
    args.layout = Mxfp4Layout::kPrepacked;
    args.bias = bias.data();
    if (p.with_residual) args.residual.data = residual.data();
    args.out = {out.data(), DType::kBF16, p.rows, p.out_cols(), p.out_cols()};
  }
  ::moxie::PrepackArgs prepack() const {
    return {Mxfp4Layout::kPrepacked, codes.data(), scales.data(), 1, args.weight.n, args.weight.k};
  }
};

void expect_within(const Linear& p, const std::vector<bf16>& got) {
  const std::vector<ExactDot> exact = reference_mxfp4_linear(p.args());
  const auto z = [&](int64_t row, int64_t f) {
    const ExactDot& dot = exact[static_cast<size_t>(row * p.n + f)];
    Bounded sum = biased_dot(dot, p.k, 0);
    sum.bound += 0x1p-22 * std::abs(static_cast<double>(p.bias[static_cast<size_t>(f)]));
    return sum;
  };
  for (int64_t row = 0; row < p.rows; ++row)
    for (int64_t f = 0; f < p.out_cols(); ++f) {
      Bounded want = p.activation == Activation::kSwiglu
                         ? swiglu(z(row, 2 * f), z(row, 2 * f + 1), 1.702f, 7)
                         : z(row, f);
      want = rounded(DType::kBF16, want);
      const auto i = static_cast<size_t>(row * p.out_cols() + f);
      if (p.with_residual) {
        want.value += static_cast<double>(to_float(p.residual[i]));
        want = rounded(DType::kBF16, want);
      }
      ASSERT_TRUE(is_within(to_float(got[i]), want))
          << "row " << row << " of " << p.rows << ", feature " << f << ": " << to_float(got[i])
          << ", wanted " << want.value << " +- " << want.bound;
    }
}

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
