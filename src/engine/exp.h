// exp() for arguments up to zero, the same bits on every machine.
//
// The C library's exp() differs in the last place from version to version, which is enough to turn
// a draw. This one is plain double arithmetic without fused multiply-adds (the build forbids the
// compiler to form them), written so that compilers can vectorise a loop over it.
#pragma once

#include <bit>
#include <cstdint>

namespace moxie {

// REQUIRES x <= 0. Below -708 the result is zero (the true one is under 1e-307).
//
// Error   |exp_nonpositive(x) - e^x| <= 2^-51 * e^x
inline double exp_nonpositive(double x) {
  const double clamped = x < -708.0 ? -708.0 : x;
  // x = k ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^52 rounds to the nearest integer, which
  // then stands in the low bits.
  constexpr double kMagic = 0x1.8p52;
  const double shifted = clamped * 1.4426950408889634 + kMagic;
  const double k = shifted - kMagic;
  // ln 2 in two parts; the first has 20 trailing zero bits, so that k times it is exact.
  const double r = (clamped - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33;
  // Taylor series of e^r to r^13: the remainder is below 2^-57.
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  // Times 2^k: the low bits of `shifted` hold k in two's complement.
  const uint64_t exponent = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;
  const double result = p * std::bit_cast<double>(exponent);
  return x < -708.0 ? 0.0 : result;
}

}  // namespace moxie
