#include "ops/reference/bounded.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

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

double quantum_of(std::span<const float> values) {
  int lowest = 1000;
  for (const float value : values) {
    if (!std::isfinite(value)) return 0;
    if (value == 0) continue;
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const int exponent = static_cast<int>(bits >> 23 & 255u);
    const uint32_t mantissa = (bits & 0x7fffffu) | (exponent > 0 ? 0x800000u : 0u);
    lowest = std::min(lowest, std::max(exponent, 1) - 150 + std::countr_zero(mantissa));
  }
  return std::ldexp(1.0, lowest == 1000 ? 2000 : lowest);
}

Bounded biased_dot(const ExactDot& dot, int64_t k, float bias) {
  const double offset = bias, value = dot.z + offset;
  // Below 2^-149 float32 has no bits left, and past 2^128 no numbers.
  const bool exact = dot.quantum >= 0x1p-149 && dot.abs_sum < 0x1p127 &&
                     std::fmod(offset, dot.quantum) == 0 &&
                     dot.abs_sum + std::abs(offset) <= 0x1p24 * dot.quantum;
  if (exact) return {value, 0};
  return {value, static_cast<double>(k + 16) * 0x1p-23 * dot.abs_sum + 0x1p-22 * std::abs(offset)};
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

double round_to_e4m3(double value) {
  if (std::isnan(value)) return value;
  constexpr double kLargest = 448;
  constexpr int kLeastExponent = -6, kMantissaBits = 3;
  if (value == 0) return value;
  const int exponent = std::max(std::isfinite(value) ? std::ilogb(value) : 100, kLeastExponent);
  const double step = std::ldexp(1.0, exponent - kMantissaBits);
  return std::clamp(std::nearbyint(value / step) * step, -kLargest, kLargest);
}

Bounded rounded_to_e4m3(const Bounded& x) {
  const double value = round_to_e4m3(x.value);
  return {value, std::max(round_to_e4m3(x.value + x.bound) - value,
                          value - round_to_e4m3(x.value - x.bound))};
}

E4m3Row e4m3_row(std::span<const float> values) {
  E4m3Row row;
  float largest = 0x1p-100f;
  bool finite = true;
  for (const float v : values) {
    finite = finite && std::isfinite(v);
    largest = std::max(largest, std::abs(v));
  }
  const float scale = finite ? 448 / largest : std::numeric_limits<float>::quiet_NaN();
  for (const float v : values) {
    const float scaled = v * scale;
    row.values.push_back(static_cast<float>(round_to_e4m3(static_cast<double>(scaled))));
  }
  const float factor = largest / 448;
  row.factor = static_cast<double>(factor);
  return row;
}

Bounded e4m3_dot(std::span<const Bounded> x, std::span<const float> w) {
  constexpr size_t kStep = 32;
  Bounded sum;
  double quantum = std::numeric_limits<double>::infinity();  // divides all terms and the sum
  for (size_t first = 0; first < x.size(); first += kStep) {
    double step = 0, largest = std::abs(sum.value) + sum.bound, magnitudes[kStep] = {};
    const size_t count = std::min(kStep, x.size() - first);
    for (size_t i = 0; i < count; ++i) {
      const Bounded& v = x[first + i];
      const double weight = static_cast<double>(w[first + i]), product = v.value * weight;
      step += product;
      magnitudes[i] = std::abs(product) + v.bound * std::abs(weight);
      largest = std::max(largest, magnitudes[i]);
      sum.bound += v.bound * std::abs(weight);
      if (v.bound != 0) quantum = 0;
      const float both[] = {static_cast<float>(product)};
      quantum = std::min(quantum, quantum_of(both));
    }
    const auto unit_of = [](double value) {
      return value > 0 && std::isfinite(value) ? std::ldexp(1.0, std::ilogb(value) - 12) : 0;
    };
    // The new sum may be larger than its terms.
    const double unit = unit_of(largest), of_sum = unit_of(std::abs(sum.value + step));
    if (quantum < std::max(unit, of_sum)) {
      sum.bound += std::min(std::abs(sum.value) + sum.bound, unit);
      for (size_t i = 0; i < count; ++i) sum.bound += std::min(magnitudes[i], unit);
      if (of_sum > unit) sum.bound += of_sum;
    }
    sum.value += step;
  }
  return sum;
}

bool is_within(float got, const Bounded& want) {
  if (std::isnan(want.value)) return std::isnan(got);
  if (!std::isfinite(want.bound)) return true;
  return std::abs(static_cast<double>(got) - want.value) <= want.bound ||
         (want.bound >= 0 && static_cast<double>(got) == want.value);
}

double relative_rms(std::span<const float> got, std::span<const Bounded> want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (want[i].bound < 0 || !std::isfinite(want[i].value)) continue;
    const double difference = static_cast<double>(got[i]) - want[i].value;
    error += difference * difference;
    size += want[i].value * want[i].value;
  }
  return error == 0 ? 0 : std::sqrt(error / size);
}

}  // namespace moxie
