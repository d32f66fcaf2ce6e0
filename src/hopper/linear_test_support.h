// One linear layer with random data, in the memory of the host and of the GPU, and the oracle's
// judgement of what came out. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cuda/device.h"
#include "ops/mxfp4_linear.h"
#include "ops/prepack.h"
#include "ops/reference/bounded.h"
#include "ops/reference/mxfp4_linear.h"
#include "ops/reference/random.h"

namespace moxie::hopper {

using Activation = Mxfp4LinearArgs::Activation;

// One linear layer in the memory of the host, and with device() in that of the GPU.
struct Linear {
  int64_t rows, n, k;
  RandomMxfp4 weight;
  std::vector<bf16> x, residual;
  std::vector<float> bias;
  Activation activation = Activation::kNone;
  bool with_residual = false;

  Linear(int64_t num_rows, int64_t num_features, int64_t depth, uint8_t min_scale = 118)
      : rows(num_rows),
        n(num_features),
        k(depth),
        weight(1, n, k, 51, min_scale, static_cast<uint8_t>(min_scale + 4)),
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

// `exact`: reference_mxfp4_linear(p.args()).
inline void expect_within(const Linear& p, const std::vector<ExactDot>& exact,
                          const std::vector<bf16>& got) {
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

inline void expect_within(const Linear& p, const std::vector<bf16>& got) {
  expect_within(p, reference_mxfp4_linear(p.args()), got);
}

}  // namespace moxie::hopper
