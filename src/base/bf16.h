// bfloat16: the upper half of a float32. Storage only; arithmetic happens in float.
//
// __builtin_bit_cast rather than std::bit_cast: nvcc accepts only the former in device code.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MOXIE_HOST_DEVICE __host__ __device__
#else
#define MOXIE_HOST_DEVICE
#endif

namespace moxie {

struct bf16 {
  uint16_t bits = 0;
  friend constexpr bool operator==(bf16, bf16) = default;
};
static_assert(sizeof(bf16) == 2);

MOXIE_HOST_DEVICE constexpr float to_float(bf16 value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value.bits) << 16);
}
MOXIE_HOST_DEVICE constexpr float to_float(float value) { return value; }

// Round to nearest, ties to even; NaN stays NaN (quiet), overflow becomes infinity.
MOXIE_HOST_DEVICE constexpr bf16 to_bf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

MOXIE_HOST_DEVICE constexpr float round_to_bf16(float value) { return to_float(to_bf16(value)); }

}  // namespace moxie
