#include "cpu/limits.h"

#include <gtest/gtest.h>

#include <vector>

#include "cpu/limits_kernel.h"

namespace moxie::cpu {
namespace {

// Wide enough for any machine, narrow enough to notice a wrong unit, a loop that the compiler
// removed, or flops counted twice in the exponent.
TEST(LimitsTest, FlopsOfEveryInstructionSetAreWithinReason) {
  ThreadPool pool(2);
  for (const Isa isa : usable_isas()) {
    const double flops = measure_peak_flops(pool, isa);
    EXPECT_GT(flops, 1e8) << name(isa);
    EXPECT_LT(flops, 2 * 1e13) << name(isa);
    // VDPBF16PS runs at half the rate of float32 multiply-adds on some of Intel's processors, and
    // at twice it on AMD's.
    if (isa == Isa::kAvx2) {
      EXPECT_GT(flops, measure_peak_flops(pool, Isa::kScalar));
    }
    if (isa == Isa::kAmx) {
      EXPECT_GT(flops, measure_peak_flops(pool, Isa::kAvx512));
    }
  }
}

// Every byte counts in the sum, wherever it lies and however it is read.
TEST(LimitsTest, ReadingLeavesNothingOut) {
  std::vector<uint8_t> memory(64 * 1024 + 4096, 1);
  for (const Isa isa : usable_isas()) {
    const LimitKernels kernels = limit_kernels(isa);
    for (const int streams : {1, 4}) {
      for (const int64_t prefetch : {0, 1024}) {
        const uint64_t before = kernels.read(memory.data(), 64 * 1024, streams, prefetch);
        for (size_t at = 0; at < 64 * 1024; at += 977) {
          memory[at] ^= 0x40;
          EXPECT_NE(kernels.read(memory.data(), 64 * 1024, streams, prefetch), before)
              << name(isa) << " " << streams << " " << at;
          memory[at] ^= 0x40;
        }
      }
    }
  }
}

}  // namespace
}  // namespace moxie::cpu
