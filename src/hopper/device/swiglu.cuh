// The activation between the two products of an expert.
#pragma once

namespace moxie::hopper {

// g * sigmoid(alpha * g) * (u + 1), g = min(gate, limit), u = linear clamped to -limit .. limit.
// NaN stays NaN. The sigmoid through exp2 and a division, both to 2 ulp.
__device__ __forceinline__ float swiglu(float gate, float linear, float alpha, float limit) {
  float g, u;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(g) : "f"(gate), "f"(limit));
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(u) : "f"(linear), "f"(-limit));
  asm("min.NaN.f32 %0, %0, %1;" : "+f"(u) : "f"(limit));
  return __fdividef(g, 1.0f + __expf(-alpha * g)) * (u + 1.0f);
}

}  // namespace moxie::hopper
