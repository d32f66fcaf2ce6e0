// Arithmetic of oracles: a number as the contract gives it, and how far a result within the
// contract's error may lie from it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"

namespace moxie {

// z of one output before activation, without bias when it says so, and sum|x||w|, which its error
// is measured by. With a quantum, a power of two that divides every product, float32 sums below
// 2^24 quanta are exact in any order.
struct ExactDot {
  double z = 0, abs_sum = 0, quantum = 0;
};

// The largest power of two that divides all values; 0 if they are not finite, infinity if all are
// 0.
double quantum_of(std::span<const float> values);

// Every result in [value - bound, value + bound] is within the contract. A negative bound marks an
// element that must not be written.
struct Bounded {
  double value = 0, bound = 0;
};

inline constexpr Bounded kUntouched = {0, -1};

// Rounds once, to nearest even, straight from float64; kF32 and kBF16.
float round_to(DType dtype, double value);

// x * w + bias: the error of Mxfp4LinearArgs over k products, or none where sums are exact. Tests
// at the sizes of models do well to choose such data, small integers and a scale or two: the bound
// over thousands of products grows like the worst case, the errors like its root.
Bounded biased_dot(const ExactDot& dot, int64_t k, float bias);
// g * sigmoid(alpha * g) * (u + 1) with g = min(gate, limit), u = clamp(up, -limit, limit).
Bounded swiglu(const Bounded& gate, const Bounded& up, float alpha, float limit);
// x * weight, with one float32 rounding.
Bounded times(const Bounded& x, float weight);
// Rounding is monotone: results within the bound end between the rounded ends, so a bound far from
// the middle between two numbers of the dtype becomes 0.
Bounded rounded(DType dtype, const Bounded& x);

// Rounds once, to nearest even, straight from float64, to float8 e4m3; 448 is its largest number.
double round_to_e4m3(double value);
Bounded rounded_to_e4m3(const Bounded& x);

// A row of activations as e4m3 and one factor, in the float32 arithmetic of MoeArgs.
struct E4m3Row {
  std::vector<float> values;
  double factor = 0;
};
E4m3Row e4m3_row(std::span<const float> values);

// sum x * w by the 8-bit tensor cores of Hopper. They add 32 products and the sum so far at a time,
// each cut below 2^-12 of the largest of these (measured: 2^-13), so the bound depends on the data;
// nothing is cut off multiples of that.
Bounded e4m3_dot(std::span<const Bounded> x, std::span<const float> w);

// Whether `got` is what is wanted. NaN is wanted as NaN; where infinities met (a bound that is not
// finite) anything is right but a number for NaN.
bool is_within(float got, const Bounded& want);

// sqrt(sum (got - value)^2 / sum value^2), over elements that are to be written and finite: what
// bounds say little about where sums are long. Roundings that tip make it 2^-11 or so; a lost block
// of 32 out of 2880 products 2^-3.
double relative_rms(std::span<const float> got, std::span<const Bounded> want);

}  // namespace moxie
