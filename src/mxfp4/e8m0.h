// E8M0, the scale of an MXFP4 block: byte b stands for 2^(b - 127), b = 0 .. 254; 255 is NaN.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "base/bf16.h"

namespace moxie::mxfp4 {

inline constexpr uint8_t kScaleNaN = 255;

// Exact, the subnormal 2^-127 included.
MOXIE_HOST_DEVICE constexpr float e8m0_to_float(uint8_t scale) {
  if (scale == kScaleNaN) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(scale == 0 ? 0x00400000u : static_cast<uint32_t>(scale) << 23);
}

}  // namespace moxie::mxfp4
