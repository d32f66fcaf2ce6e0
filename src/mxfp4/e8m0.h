// E8M0, the scale of an MXFP4 block: byte b stands for 2^(b - 127), b = 0 .. 254; 255 is NaN.
#pragma once

#include <cstdint>

#include "base/bf16.h"

namespace moxie::mxfp4 {

inline constexpr uint8_t kScaleNaN = 255;

// Exact, the subnormal 2^-127 included.
MOXIE_HOST_DEVICE constexpr float e8m0_to_float(uint8_t scale) {
  const uint32_t bits = scale == kScaleNaN ? 0x7fc00000u
                        : scale == 0       ? 0x00400000u
                                           : static_cast<uint32_t>(scale) << 23;
  return __builtin_bit_cast(float, bits);
}

// 2^-(b - 127), what elements are multiplied by before they are rounded; NaN for 255.
MOXIE_HOST_DEVICE constexpr float e8m0_reciprocal(uint8_t scale) {
  return scale == kScaleNaN ? e8m0_to_float(kScaleNaN)
                            : e8m0_to_float(static_cast<uint8_t>(254 - scale));
}

}  // namespace moxie::mxfp4
