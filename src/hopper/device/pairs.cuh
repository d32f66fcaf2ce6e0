// Pairs of bf16 in a register.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace moxie::hopper {

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}
// Sums of two bf16, in float32, rounded.
__device__ __forceinline__ uint32_t add_pairs(uint32_t a, uint32_t b) {
  const float2 x = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&a));
  const float2 y = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&b));
  return pack(x.x + y.x, x.y + y.y);
}

}  // namespace moxie::hopper
