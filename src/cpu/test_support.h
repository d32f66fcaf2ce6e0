// What the tests and benchmarks of the CPU operations share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/memory.h"
#include "base/thread_pool.h"
#include "cpu/context.h"

namespace moxie::cpu {

// SplitMix64 and Box-Muller: the same numbers with every standard library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  float uniform() { return static_cast<float>(bits() >> 40) * 0x1p-24f; }  // [0, 1)
  float normal() {
    const float radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(6.2831853f * uniform());
  }

 private:
  uint64_t state_;
};

// Half the distance between the two bf16 numbers around `exact`.
inline double half_bf16_ulp(double exact) {
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::ldexp(1.0, std::max(exponent - 1, -126) - 8);
}

// A context with scratch of its own, as CpuBackend would make it.
class TestContext {
 public:
  TestContext(Isa isa, int num_threads, const BackendLimits& limits, int64_t scratch_bytes)
      : pool_(num_threads),
        scratch_(static_cast<size_t>(scratch_bytes)),
        context_{.pool = pool_,
                 .isa = isa,
                 .limits = limits,
                 .scratch = {scratch_.data(), scratch_.size_bytes()}} {}

  Context& get() { return context_; }

 private:
  ThreadPool pool_;
  PageBuffer scratch_;
  Context context_;
};

}  // namespace moxie::cpu
