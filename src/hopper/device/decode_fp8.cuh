// E2M1 to e5m2 in registers, in the order of mxfp4/weight_layout.h, exact for scales of one window.
//
// A word becomes two registers of four e5m2: for the row of lane / 4 and t = lane % 4 the elements
// 2t, 8 + 2t, 16 + 2t, 24 + 2t of a block, then those after them. As operand A of wgmma m64k32 that
// is k in the order of fp8_position() below; operand B has to lie in the same order.
//
// A row's window begins at scale `base`: scale s, base <= s <= base + 26, has the exponent offset
// s - base + 1, and what is decoded is the weight times 2^(kWindowBias - base).
//
// Cost  13 integer operations and 5 multiplications a word, 2 operations a pair for its scales
#pragma once

#include <cstdint>

#include "base/bf16.h"
#include "hopper/device/decode.cuh"

namespace moxie::hopper {

inline constexpr int kWindowScales = 27;  // 2^-14 is e5m2's smallest normal number, 6 * 2^13 fits
inline constexpr int kWindowBias = 114;

// Where element `i` of a block of 32 lies among the 32 bytes that meet decoded weights.
MOXIE_HOST_DEVICE constexpr int fp8_position(int i) { return 16 * (i % 2) + i % 8 / 2 * 4 + i / 8; }

// Byte i of the result is byte `selector` nibble i of the eight in low and high; nibbles below 8.
__device__ __forceinline__ uint32_t select_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(selector));
  return bytes;
}

__device__ __forceinline__ uint32_t multiply_add(uint32_t a, uint32_t b, uint32_t c) {
  return a * b + c;
}

// `offset` is the exponent offset times 4, in each byte.
__device__ __forceinline__ void decode_word_fp8(uint32_t word, uint32_t offset,
                                                const Multipliers& by, uint32_t& even,
                                                uint32_t& odd) {
  // Magnitudes 0, 0.5, 1, 1.5; 2, 3, 4, 6. Zero has no exponent.
  const uint32_t low = multiply_add(offset, by.two_to_8, 0x06040000u);
  const uint32_t high = multiply_add(offset, by.one, 0x0e0c0a08u);
  // Magnitudes of pairs 0 .. 3 in the nibbles of each half: pairs 0 and 1 lie there, 2 and bit 0 of
  // 3 are two bits too high, bits 1 and 2 of 3 six too low.
  const uint32_t down = word >> 2, up = word * 64u;
  uint32_t codes = (word & 0x00ff00ffu) | (down & 0xff00ff00u);
  codes = (codes & ~0x60006000u) | (up & 0x60006000u);
  codes &= 0x77777777u;
  // Signs: bits 7, 11, 13 and 17 of the word turned right by 2 (odd elements: by 18) come to bits
  // 7, 15, 31 and 23; sums of the other products do not carry into those.
  constexpr uint32_t kSigns = 0x00022880u, kSpread = 1u + (1u << 4) + (1u << 6) + (1u << 18);
  const uint32_t even_signs = (down & kSigns) * kSpread;
  const uint32_t odd_signs = (__funnelshift_r(word, word, 18) & kSigns) * kSpread;
  even = select_bytes(low, high, codes) | (even_signs & 0x80808080u);
  odd = select_bytes(low, high, codes >> 16) | (odd_signs & 0x80808080u);
}

// A lane's 16 bytes of a pair of blocks into the operands A of two k32. `offsets` has the exponent
// offsets times 4 of its four words.
__device__ __forceinline__ void decode_pair_fp8(const uint4& words, uint32_t offsets,
                                                const Multipliers& by, uint32_t (&a)[8]) {
  decode_word_fp8(words.x, select_bytes(offsets, 0, 0x0000), by, a[0], a[2]);
  decode_word_fp8(words.y, select_bytes(offsets, 0, 0x1111), by, a[1], a[3]);
  decode_word_fp8(words.z, select_bytes(offsets, 0, 0x2222), by, a[4], a[6]);
  decode_word_fp8(words.w, select_bytes(offsets, 0, 0x3333), by, a[5], a[7]);
}

}  // namespace moxie::hopper
