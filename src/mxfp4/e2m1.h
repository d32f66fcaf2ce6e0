// E2M1, the 4-bit element of MXFP4: sign, two exponent bits (bias 1), one mantissa bit; no
// infinity, no NaN. Source: OCP Microscaling Formats v1.0.
#pragma once

#include <cstdint>

#include "base/bf16.h"

namespace moxie::mxfp4 {

// Twice the value of each code; the value itself in bf16. Tables for host code that looks codes up
// many at a time.
inline constexpr int8_t kE2m1Doubled[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                            0, -1, -2, -3, -4, -6, -8, -12};
inline constexpr uint16_t kE2m1Bf16Bits[16] = {0x0000, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040,
                                               0x4080, 0x40c0, 0x8000, 0xbf00, 0xbf80, 0xbfc0,
                                               0xc000, 0xc040, 0xc080, 0xc0c0};

// Value of a code (its low four bits): 0 0.5 1 1.5 2 3 4 6, and the same with a minus sign from 8
// on.
MOXIE_HOST_DEVICE constexpr float e2m1_to_float(uint8_t code) {
  const uint32_t magnitude = code & 7u;
  // Twice the value is the integer 0 1 2 3 4 6 8 12.
  const uint32_t doubled =
      magnitude < 4 ? magnitude : (2u | (magnitude & 1u)) << ((magnitude >> 1) - 1);
  const float value = static_cast<float>(doubled) * 0.5f;
  return (code & 8u) ? -value : value;
}

// Nearest code, ties to the even code; magnitudes above 6, infinity and NaN saturate to 6 with
// their sign. The sign of zero is kept (-0 is code 8).
MOXIE_HOST_DEVICE constexpr uint8_t e2m1_from_float(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const float t = __builtin_bit_cast(float, bits & 0x7fffffffu);
  // The code counts the thresholds passed: no branch, so that compilers vectorise it. Each is half
  // way between two values and belongs to the even code beside it. NaN passes all.
  const uint32_t magnitude = static_cast<uint32_t>(!(t <= 0.25f)) + !(t < 0.75f) + !(t <= 1.25f) +
                             !(t < 1.75f) + !(t <= 2.5f) + !(t < 3.5f) + !(t <= 5.0f);
  return static_cast<uint8_t>(((bits >> 28) & 8u) | magnitude);
}

}  // namespace moxie::mxfp4
