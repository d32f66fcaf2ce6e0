// The loops that limits.cc times, one instance per instruction set.
#pragma once

#include <cstdint>

#include "cpu/isa.h"

namespace moxie::cpu {

struct LimitKernels {
  // Reads `bytes` (a multiple of 4096) in `streams` (1 or 4) places at once, prefetching
  // `prefetch_bytes` ahead (0: not at all). The sum is only there so that nothing is left out.
  uint64_t (*read)(const uint8_t* data, int64_t bytes, int streams, int64_t prefetch_bytes);
  // Runs `steps` rounds of independent multiply-adds in registers; returns something of the result.
  float (*multiply)(int64_t steps);
  int64_t flops_per_step;
};

LimitKernels limit_kernels(Isa isa);

LimitKernels limit_kernels_scalar();
LimitKernels limit_kernels_avx2();
LimitKernels limit_kernels_avx512();
LimitKernels limit_kernels_avx512_bf16();
LimitKernels limit_kernels_amx();

namespace {

// S: a vector class of simd_portable.h.
template <class S>
uint64_t read_memory(const uint8_t* data, int64_t bytes, int streams, int64_t prefetch_bytes) {
  using Bits = typename S::Bits;
  constexpr int64_t kStep = 256;
  constexpr int kLoads = kStep / (4 * S::kWidth);
  Bits sums[4] = {S::set1_bits(0), S::set1_bits(0), S::set1_bits(0), S::set1_bits(0)};
  const int64_t part = bytes / streams;
  for (int64_t at = 0; at < part; at += kStep) {
    for (int stream = 0; stream < streams; ++stream) {
      const uint8_t* p = data + stream * part + at;
      if (prefetch_bytes > 0) {
        for (int64_t line = 0; line < kStep; line += 64) S::prefetch(p + prefetch_bytes + line);
      }
      for (int i = 0; i < kLoads; ++i) {
        Bits& sum = sums[i % 4];
        sum = S::exclusive_or(sum, S::load_bits(p + i * 4 * S::kWidth));
      }
    }
  }
  const Bits all =
      S::exclusive_or(S::exclusive_or(sums[0], sums[1]), S::exclusive_or(sums[2], sums[3]));
  uint32_t lanes[S::kWidth];
  S::store_bits(lanes, all);
  uint64_t result = 0;
  for (int i = 0; i < S::kWidth; ++i) result += lanes[i];
  return result;
}

constexpr int kRounds = 16;  // of all chains in a step

// Chains: independent sums, enough to hide the latency and few enough for the registers.
template <class S, int Chains>
float multiply_registers(int64_t steps) {
  using Float = typename S::Float;
  Float chain[Chains];
#pragma GCC unroll 32
  for (int i = 0; i < Chains; ++i) chain[i] = S::set1(1.0f + static_cast<float>(i));
  const Float factor = S::set1(0.999f + 1e-9f * static_cast<float>(steps % 2));
  const Float term = S::set1(0.001f);
  for (int64_t step = 0; step < steps; ++step) {
    for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 32
      for (int i = 0; i < Chains; ++i) chain[i] = S::mul_add(chain[i], factor, term);
    }
  }
  Float sum = S::zero();
  for (int i = 0; i < Chains; ++i) sum = S::add(sum, chain[i]);
  return S::reduce_add(sum);
}

template <class S, int Chains>
LimitKernels limit_kernels_of() {
  return {&read_memory<S>, &multiply_registers<S, Chains>,
          int64_t{2} * S::kWidth * Chains * kRounds};
}

}  // namespace
}  // namespace moxie::cpu
