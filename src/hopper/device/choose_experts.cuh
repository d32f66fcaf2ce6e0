// A row's choice of experts from its logits, by one warp.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace moxie::hopper {

// A row of logits in memory, bf16 or float32.
struct LogitRow {
  const void* logits;
  int64_t begin;  // elements
  bool is_bf16;
  __device__ float operator[](int expert) const {
    return is_bf16 ? __bfloat162float(static_cast<const __nv_bfloat16*>(logits)[begin + expert])
                   : static_cast<const float*>(logits)[begin + expert];
  }
};

// Orders like the value; NaN below everything, both zeros alike.
__device__ __forceinline__ uint32_t order_of(float value) {
  if (value != value) return 0;
  const uint32_t bits = __float_as_uint(value == 0 ? 0.0f : value);
  return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}
// A value with that order: the same but for a zero's sign and what a NaN carries.
__device__ __forceinline__ float value_of(uint32_t order) {
  if (order == 0) return __uint_as_float(0x7fc00000u);
  return __uint_as_float(order ^ ((order >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}

// What lane i < experts_per_token holds: choice i and its weight.
struct Choice {
  int expert;
  float weight;
};

// The experts_per_token largest of all_experts <= 32 * kLaneExperts logits, larger first, of equal
// ones the smaller index first; softmax over these, rounded to the logits' dtype. All lanes call;
// one load from memory.
template <int kLaneExperts>
__device__ __forceinline__ Choice choose_experts(const LogitRow& row, int all_experts,
                                                 int experts_per_token, int lane) {
  constexpr unsigned kAll = 0xffffffffu;
  constexpr int kNoExpert = 32 * kLaneExperts;
  uint32_t keys[kLaneExperts];  // of expert 32 * i + lane; 0 can be NaN, which is still chosen last
  uint32_t left = 0;
#pragma unroll
  for (int i = 0; i < kLaneExperts; ++i) {
    const int expert = 32 * i + lane;
    keys[i] = 0;
    if (expert < all_experts) {
      keys[i] = order_of(row[expert]);
      left |= 1u << i;
    }
  }
  float chosen = 0;  // of lane i: the logit of choice i
  int id = 0;
  for (int choice = 0; choice < experts_per_token; ++choice) {
    uint32_t best = 0;
    int mine = kNoExpert;
#pragma unroll
    for (int i = 0; i < kLaneExperts; ++i)
      if ((left >> i & 1u) != 0 && (mine == kNoExpert || keys[i] > best)) {
        best = keys[i];
        mine = 32 * i + lane;
      }
    const uint32_t top = __reduce_max_sync(kAll, best);
    const int first = static_cast<int>(__reduce_min_sync(
        kAll, best == top && mine < kNoExpert ? static_cast<uint32_t>(mine)
                                              : static_cast<uint32_t>(kNoExpert)));
    if (first % 32 == lane) left &= ~(1u << (first / 32));
    if (lane == choice) id = first, chosen = value_of(top);
  }
  const bool mine = lane < experts_per_token;
  const float largest = __shfl_sync(kAll, chosen, 0);
  const float power = mine ? expf(chosen - largest) : 0.0f;
  float sum = 0;  // in the order of the choice
  for (int i = 0; i < experts_per_token; ++i) sum += __shfl_sync(kAll, power, i);
  const float weight = power / sum;
  return {id, row.is_bf16 ? __bfloat162float(__float2bfloat16(weight)) : weight};
}

}  // namespace moxie::hopper
