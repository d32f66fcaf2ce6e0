#include "cpu/limits_kernel.h"
#include "cpu/simd_avx512.h"

namespace moxie::cpu {
namespace {

// A chain's "multiply-add" is a VDPBF16PS: 32 products of bf16, summed in pairs into 16 lanes.
struct DotPairs : Avx512 {
  static Float mul_add(Float chain, Float factor, Float term) {
    return _mm512_dpbf16_ps(chain, (__m512bh)factor, (__m512bh)term);
  }
};

}  // namespace

LimitKernels limit_kernels_avx512_bf16() {
  LimitKernels kernels = limit_kernels_of<DotPairs, 16>();
  kernels.flops_per_step *= 2;
  return kernels;
}

}  // namespace moxie::cpu
