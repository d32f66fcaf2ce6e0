// Rotation of one row's heads as a template over a vector class (simd_portable.h); local to the
// including file. Each product and each sum is rounded to bf16.
#pragma once

#include <cstdint>

#include "base/bf16.h"

namespace moxie::cpu {
namespace {

template <class S>
void rope_heads(bf16* heads, int64_t num_heads, int64_t head_dim, const float* cos,
                const float* sin) {
  using Float = typename S::Float;
  const int64_t half = head_dim / 2;
  for (int64_t d = 0; d < half; d += S::kWidth) {
    const Float c = S::round_bf16_any_nan(S::load(cos + d));
    const Float s = S::round_bf16_any_nan(S::load(sin + d));
    for (int64_t head = 0; head < num_heads; ++head) {
      bf16* lower = heads + head * head_dim + d;
      bf16* upper = lower + half;
      const Float x = S::load_bf16(lower), y = S::load_bf16(upper);
      const Float xc = S::round_bf16(S::mul(x, c)), ys = S::round_bf16(S::mul(y, s));
      const Float yc = S::round_bf16(S::mul(y, c)), xs = S::round_bf16(S::mul(x, s));
      S::store_bf16(lower, S::round_bf16(S::sub(xc, ys)));
      S::store_bf16(upper, S::round_bf16(S::add(yc, xs)));
    }
  }
}

}  // namespace
}  // namespace moxie::cpu
