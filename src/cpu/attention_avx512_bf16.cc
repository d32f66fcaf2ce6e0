// As AVX-512, with q . k by VDPBF16PS: products of bf16 pairs are exact and summed in float32, but
// subnormal inputs count as zero.
#include <cstring>

#include "cpu/attention_kernel.h"
#include "cpu/simd_avx512.h"

namespace moxie::cpu {
namespace {

struct Avx512Bf16 : Avx512 {
  static constexpr bool kPairDot = true;

  static Bits broadcast_pair(const bf16* pair) {
    int bits;
    std::memcpy(&bits, pair, sizeof bits);
    return _mm512_set1_epi32(bits);
  }
  static Float dot_pairs(Float sum, Bits a, Bits b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};

}  // namespace

AttentionKernels attention_kernels_avx512_bf16() { return Attention<Avx512Bf16>::kernels(); }

}  // namespace moxie::cpu
