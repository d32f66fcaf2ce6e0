// Prefill on AMX tiles (attention_tiles.h); decode is that of AVX-512 without BF16: processors with
// AMX are Intel's, whose VDPBF16PS does half as much as its float32 multiply-adds (measured: 13.8
// against 10.6 GB/s of keys and values with two threads of a Xeon, model 207).
#include <immintrin.h>

#include "cpu/attention_tiles.h"
#include "cpu/simd_avx512.h"
#include "cpu/tile_amx.h"

namespace moxie::cpu {
namespace {

struct AmxVectors : Avx512 {
  static void split(Float x, bf16* high, bf16* low) {
    const __m256bh upper = _mm512_cvtneps_pbh(x);
    const Float rest =
        sub(x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)upper), 16)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), (__m256i)upper);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), (__m256i)_mm512_cvtneps_pbh(rest));
  }
  static bool interleave(const bf16* a, const bf16* b, uint32_t* out) {
    const Bits first = load_bits(a), second = load_bits(b);
    const Bits even = _mm512_unpacklo_epi16(first, second);  // pairs 0-3, 8-11, 16-19, 24-27
    const Bits odd = _mm512_unpackhi_epi16(first, second);   // pairs 4-7, 12-15, ...
    const Bits lower = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const Bits upper = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    store_bits(out, _mm512_permutex2var_epi64(even, lower, odd));
    store_bits(out + 16, _mm512_permutex2var_epi64(even, upper, odd));
    const Bits exponent = _mm512_set1_epi16(0x7f80);
    const __mmask32 others = _mm512_cmpeq_epi16_mask(_mm512_and_si512(first, exponent), exponent) |
                             _mm512_cmpeq_epi16_mask(_mm512_and_si512(second, exponent), exponent);
    return others == 0;
  }
};

}  // namespace

AttentionKernels attention_kernels_amx() {
  AttentionKernels kernels = attention_kernels_avx512();
  kernels.attend_prefill = &TiledAttention<AmxVectors, AmxTiles>::attend;
  return kernels;
}

}  // namespace moxie::cpu
