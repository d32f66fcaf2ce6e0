// MXFP4 to bf16 in AVX-512, and the order in which the weights of a block come out of it.
//
// Lookup order: 32 weights lie as 16 bytes = 8 words of four codes. The words are copied to all
// four lanes of a vector and lane l is shifted right by 4 l bits, so that the lowest code of word j
// there is element 4 j + l of the block: one load, one shift and one lookup, and nothing is spent
// on putting neighbours side by side. Activations that meet such weights are laid out alike:
//
//   position   0  1  2 ..  7   8  9 .. 15  16 .. 23  24 .. 31
//   element    0  4  8 .. 28   1  5 .. 29   2 .. 30   3 .. 31
//
// For files of AVX-512 (empty elsewhere).
#pragma once
#ifdef __AVX512BW__

#include <immintrin.h>

#include <cstdint>

#include "cpu/mxfp4_tables.h"

namespace moxie::cpu {
namespace {

// The lookup ignores everything above the lowest five bits of a word, and the table everything
// above the lowest four.
inline __m512i decode_block(const uint8_t* codes, uint8_t scale) {
  const __m512i words =
      _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  const __m512i shifts = _mm512_inserti64x4(
      _mm512_castsi256_si512(_mm256_setr_epi64x(0, 0, 0x0004000400040004, 0x0004000400040004)),
      _mm256_setr_epi64x(0x0008000800080008, 0x0008000800080008, 0x000c000c000c000c,
                         0x000c000c000c000c),
      1);
  return _mm512_permutexvar_epi16(_mm512_srlv_epi16(words, shifts),
                                  _mm512_load_si512(kMxfp4Bf16.bits[scale]));
}

// 32 bf16 numbers from the order of k to lookup order.
inline __m512i to_lookup_order(__m512i block) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0,  4,  8,  12, 16, 20, 24, 28, 1,  5,  9,
                                                      13, 17, 21, 25, 29, 2,  6,  10, 14, 18, 22,
                                                      26, 30, 3,  7,  11, 15, 19, 23, 27, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), block);
}

}  // namespace
}  // namespace moxie::cpu

#endif
