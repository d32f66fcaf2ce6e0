// E2M1 to bf16 in registers, in the order of mxfp4/weight_layout.h.
//
// A word becomes four registers of two bf16: for the row of lane / 4 and t = lane % 4 the elements
// 2t, 2t + 1 of each 8 of a block, so registers 0 and 1 are a0 and a2 (rows 8 .. 15: a1 and a3) of
// the block's first m16k16 operand, 2 and 3 those of its second.
//
// Cost  9 integer operations and 4 multiplications a word, 2 operations a factor
#pragma once

#include <cstdint>

#include "hopper/device/ptx.cuh"

namespace moxie::hopper {

// Signs and magnitudes of a word as bf16 pairs, each value times 2^-126.
__device__ __forceinline__ void spread_codes(uint32_t word, uint32_t (&pairs)[4]) {
  pairs[0] = (word << 6) & 0x81c081c0u;
  pairs[1] = (word << 2) & 0x81c081c0u;
  pairs[2] = __funnelshift_r(word, word, 4) & 0x81c081c0u;
  pairs[3] = (word & 0x81808180u) | ((word >> 8) & 0x00400040u);
}

// Powers of two that the compiler must not know: multiplications by them stay multiplications, on
// another pipe than shifts and logic (docs/measured.md).
struct Multipliers {
  uint32_t one = 1, by128 = 128, two_to_8 = 1 << 8;
};

// Whether any of four scale bytes is 128 or more: decode_word() cannot take those.
__device__ __forceinline__ bool has_large_scale(uint32_t scales) {
  return (scales & 0x80808080u) != 0;
}

// Byte `i` of four scales, s < 128: 2^(s - 127) * 2^126 twice, in bf16.
template <int i>
__device__ __forceinline__ uint32_t small_factor(uint32_t scales) {
  return __byte_perm(scales, 0, 0x4040 | i * 0x0101) * 128u + 0x3f003f00u;
}

// The word's values, exact.
__device__ __forceinline__ void decode_word(uint32_t word, uint32_t factor, uint32_t (&pairs)[4]) {
  spread_codes(word, pairs);
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = multiply_bf16x2(pairs[i], factor);
}

// The same for every scale: 2^(s - 1) is split in two factors that bf16 can hold. Products past the
// largest finite number are clamped to it, 255 gives NaN: mxfp4/block.h.
inline __device__ __noinline__ uint4 decode_word_any_scale(uint32_t word, uint32_t scale) {
  uint32_t pairs[4];
  spread_codes(word, pairs);
  constexpr uint32_t kTwoTo126 = 0x7e807e80u, kNaN = 0x7fc07fc0u, kMagnitude = 0x7fff7fffu;
  const uint32_t power = scale == 0 ? 0x0040u : scale << 7;  // 2^(s - 127)
  const uint32_t factor = scale == 255 ? kNaN : power * 0x00010001u;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t value = multiply_bf16x2(multiply_bf16x2(pairs[i], kTwoTo126), factor);
#pragma unroll
    for (int shift = 0; shift < 32; shift += 16)
      if (((value & kMagnitude) >> shift & 0xffffu) == 0x7f80u) value -= 1u << shift;
    pairs[i] = value;
  }
  return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

// The same in line, for kernels that have wgmmas under way: a call would keep them from
// overlapping.
__device__ __forceinline__ void decode_word_any_scale_inline(uint32_t word, uint32_t scale,
                                                             uint32_t (&pairs)[4]) {
  spread_codes(word, pairs);
  constexpr uint32_t kTwoTo126 = 0x7e807e80u, kLargest = 0x7f7f7f7fu, kSigns = 0x80008000u;
  const uint32_t power = scale == 0 ? 0x0040u : scale << 7;  // 2^(scale - 127)
  const uint32_t factor = scale == 255 ? 0x7fc07fc0u : power * 0x00010001u;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pairs[i] = multiply_bf16x2(multiply_bf16x2(pairs[i], kTwoTo126), factor);
    asm("min.NaN.bf16x2 %0, %0, %1;" : "+r"(pairs[i]) : "r"(kLargest));
    asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(pairs[i]) : "r"(kLargest | kSigns));
  }
}

// Two words, rows g and g + 8 of a block, into the operands A of two k16.
__device__ __forceinline__ void interleave_rows(const uint32_t (&low)[4], const uint32_t (&high)[4],
                                                uint32_t* a) {
  a[0] = low[0], a[1] = high[0], a[2] = low[1], a[3] = high[1];
  a[4] = low[2], a[5] = high[2], a[6] = low[3], a[7] = high[3];
}

// A lane's 16 bytes of a pair of blocks, with their four scales, into the operands A of four k16.
template <bool kAnyScale>
__device__ __forceinline__ void decode_pair(const uint4& words, uint32_t scales,
                                            uint32_t (&a)[16]) {
  uint32_t low[4], high[4];
  if constexpr (kAnyScale) {
    decode_word_any_scale_inline(words.x, scales & 255u, low);
    decode_word_any_scale_inline(words.y, scales >> 8 & 255u, high);
    interleave_rows(low, high, a);
    decode_word_any_scale_inline(words.z, scales >> 16 & 255u, low);
    decode_word_any_scale_inline(words.w, scales >> 24, high);
    interleave_rows(low, high, a + 8);
  } else {
    decode_word(words.x, small_factor<0>(scales), low);
    decode_word(words.y, small_factor<1>(scales), high);
    interleave_rows(low, high, a);
    decode_word(words.z, small_factor<2>(scales), low);
    decode_word(words.w, small_factor<3>(scales), high);
    interleave_rows(low, high, a + 8);
  }
}

// The same without large scales, where shifts by a constant are multiplications: `by128` is 128 in
// a place that the compiler cannot look into. The ALU is the busier pipe.
__device__ __forceinline__ void decode_pair_by(const uint4& words, uint32_t scales, uint32_t by128,
                                               uint32_t (&a)[16]) {
  constexpr uint32_t kBias = 0x3f003f00u;
  uint32_t low[4], high[4];
  decode_word(words.x, __byte_perm(scales, 0, 0x4040) * by128 + kBias, low);
  decode_word(words.y, __byte_perm(scales, 0, 0x4141) * by128 + kBias, high);
  interleave_rows(low, high, a);
  decode_word(words.z, __byte_perm(scales, 0, 0x4242) * by128 + kBias, low);
  decode_word(words.w, __byte_perm(scales, 0, 0x4343) * by128 + kBias, high);
  interleave_rows(low, high, a + 8);
}

}  // namespace moxie::hopper
