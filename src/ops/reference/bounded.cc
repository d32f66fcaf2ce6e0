#include "ops/reference/bounded.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/bf16.h"

namespace moxie {

float round_to(DType dtype, double value) {
  const float nearest = static_cast<float>(value);
  if (dtype == DType::kF32) return nearest;
  if (!std::isfinite(nearest)) return round_to_bf16(nearest);
  // Two roundings differ from one where float32 lands on the middle between two bf16 numbers
  // although the value does not: then make the float32 odd first.
  uint32_t bits = std::bit_cast<uint32_t>(nearest);
  if ((bits & 0xffffu) == 0x8000u && static_cast<double>(nearest) != value) {
    const bool value_is_larger = std::abs(value) > std::abs(static_cast<double>(nearest));
    bits += value_is_larger ? 1u : -1u;
  }
  return round_to_bf16(std::bit_cast<float>(bits));
}

Bounded biased_dot(const ExactDot& dot, int64_t k, float bias) {
  return {dot.z + static_cast<double>(bias), static_cast<double>(k + 16) * 0x1p-23 * dot.abs_sum +
                                                 0x1p-22 * std::abs(static_cast<double>(bias))};
}

Bounded swiglu(const Bounded& gate, const Bounded& up, float alpha, float limit) {
  const double top = limit;
  // Comparisons in this order let NaN through.
  const double g = gate.value > top ? top : gate.value;
  const double u = up.value > top ? top : up.value < -top ? -top : up.value;
  const double v = static_cast<double>(alpha) * g;
  const double gated = g / (1 + std::exp(-v));
  const double value = gated * (u + 1);
  // |d(g * sigmoid(alpha * g)) / dg| < 1.1 for every alpha. Four float32 roundings besides
  // sigmoid's own error.
  const double of_gate = 1.1 * gate.bound + std::abs(gated) * (0x1p-20 + std::abs(v) * 0x1p-24) +
                         0x1p-126 * std::abs(g);
  return {value, of_gate * (std::abs(u + 1) + up.bound) + std::abs(gated) * up.bound +
                     std::abs(value) * 0x1p-22};
}

Bounded times(const Bounded& x, float weight) {
  const double w = weight, value = x.value * w;
  return {value, x.bound * std::abs(w) + (std::abs(value) + x.bound * std::abs(w)) * 0x1p-24};
}

Bounded rounded(DType dtype, const Bounded& x) {
  const double value = round_to(dtype, x.value);
  const double low = round_to(dtype, x.value - x.bound), high = round_to(dtype, x.value + x.bound);
  return {value, std::max(high - value, value - low)};
}

bool is_within(float got, const Bounded& want) {
  if (std::isnan(want.value)) return std::isnan(got);
  if (!std::isfinite(want.bound)) return true;
  return std::abs(static_cast<double>(got) - want.value) <= want.bound ||
         (want.bound >= 0 && static_cast<double>(got) == want.value);
}

}  // namespace moxie
