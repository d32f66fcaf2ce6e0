// E2M1, the 4-bit element of MXFP4: sign, two exponent bits (bias 1), one mantissa bit; no
// infinity, no NaN. Source: OCP Microscaling Formats v1.0.
#pragma once

#include <bit>
#include <cstdint>

#include "base/bf16.h"

namespace moxie::mxfp4 {

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
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint8_t sign = static_cast<uint8_t>((bits >> 28) & 8u);
  const float t = std::bit_cast<float>(bits & 0x7fffffffu);
  uint8_t code = 7;
  if (t <= 0.25f)
    code = 0;
  else if (t < 0.75f)
    code = 1;
  else if (t <= 1.25f)
    code = 2;
  else if (t < 1.75f)
    code = 3;
  else if (t <= 2.5f)
    code = 4;
  else if (t < 3.5f)
    code = 5;
  else if (t <= 5.0f)
    code = 6;
  return static_cast<uint8_t>(sign | code);
}

}  // namespace moxie::mxfp4
