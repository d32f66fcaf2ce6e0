// RMSNorm of one row as a template over a vector class (simd_portable.h); local to the including
// file. The squares are summed in 4 W chains and a tail, so a sum of n terms is off by at most
// n / (4 W) + W + 4 roundings.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/bf16.h"

namespace moxie::cpu {
namespace {

template <class S>
void rms_norm_row(const bf16* x, const float* scale, float epsilon, int64_t cols, bf16* out) {
  using Float = typename S::Float;
  constexpr int64_t W = S::kWidth;
  Float sums[4] = {S::zero(), S::zero(), S::zero(), S::zero()};
  int64_t i = 0;
  for (; i + 4 * W <= cols; i += 4 * W) {
    for (int j = 0; j < 4; ++j) {
      const Float v = S::load_bf16(x + i + j * W);
      sums[j] = S::mul_add(v, v, sums[j]);
    }
  }
  float sum = S::reduce_add(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])));
  for (; i < cols; ++i) sum += to_float(x[i]) * to_float(x[i]);

  const float factor = 1.0f / __builtin_sqrtf(sum / static_cast<float>(cols) + epsilon);
  const Float factors = S::set1(factor);
  for (i = 0; i + W <= cols; i += W) {
    const Float y = S::mul(S::mul(S::load_bf16(x + i), factors), S::load(scale + i));
    S::store_bf16(out + i, S::round_bf16_any_nan(y));
  }
  for (; i < cols; ++i) out[i] = to_bf16(to_float(x[i]) * factor * scale[i]);
}

}  // namespace
}  // namespace moxie::cpu
