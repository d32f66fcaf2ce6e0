// The activation between the two products of an expert.
#pragma once

namespace moxie::hopper {

// g * sigmoid(alpha * g) * (u + 1), g = min(gate, limit), u = linear clamped to -limit .. limit.
// The sigmoid through exp2 and a division, both to 2 ulp.
__device__ __forceinline__ float swiglu(float gate, float linear, float alpha, float limit) {
  const float g = fminf(gate, limit), u = fminf(fmaxf(linear, -limit), limit);
  return __fdividef(g, 1.0f + __expf(-alpha * g)) * (u + 1.0f);
}

}  // namespace moxie::hopper
