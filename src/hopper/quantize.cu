// bf16 to MXFP4 blocks and back on Hopper. Implements quantize.h.
//
// Work    a thread has eights of elements, 16 bytes of bf16 and 4 of codes; four threads beside
//         each other have a block, so that a warp reads and writes whole lines
// Cost    81 bytes a block, each moved once
#include <algorithm>

#include "hopper/device/ptx.cuh"
#include "hopper/quantize.h"

namespace moxie::hopper {
namespace {

constexpr int kThreads = 256;
constexpr int kEights = mxfp4::kBlock / 8;  // of a block
constexpr int kAtOnce = 4;                  // eights that a thread has under way

// Pairs of bf16 in a register, both halves at once.
__device__ __forceinline__ uint32_t multiply_add_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
  return sum;
}
// All bits of a half where a < b; not where either is NaN.
__device__ __forceinline__ uint32_t less_bf16x2(uint32_t a, uint32_t b) {
  uint32_t mask;
  asm("set.lt.u32.bf16x2 %0, %1, %2;" : "=r"(mask) : "r"(a), "r"(b));
  return mask;
}

// Magnitudes of bf16 order like their bits. With kNumberBias added NaN has the sign bit set and
// numbers have not, so a signed maximum passes over NaN: mxfp4::block_amax.
constexpr uint32_t kMagnitudes = 0x7fff7fffu, kNumberBias = 0x007f007fu;

// The codes of a pair, bits 0 .. 7: mxfp4::encode_element. `factor` twice.
__device__ __forceinline__ uint32_t encode_pair(uint32_t pair, uint32_t factor) {
  constexpr uint32_t kOnes = 0x3f803f80u, kSixtyFour = 0x42804280u;
  const uint32_t magnitudes = pair & kMagnitudes;
  const uint32_t t = multiply_bf16x2(magnitudes, factor);
  // Below 1: added to 64 it is rounded to halves, and the last bits count them.
  const uint32_t small = multiply_add_bf16x2(magnitudes, factor, kSixtyFour);
  // From 1 on: rounded to one bit of mantissa, ties to even, exponent and that bit count up from 2.
  // Infinity and NaN are above all numbers. The top bits are lent so that no half borrows from the
  // other.
  const uint32_t rounded = t + 0x001f001fu + ((t >> 6) & 0x00010001u);
  const uint32_t counted = ((rounded >> 6 & 0x03ff03ffu) | 0x80008000u) - 0x00fc00fcu;
  const uint32_t large = __vminu2(counted, 0x80078007u);
  const uint32_t below_one = less_bf16x2(t, kOnes);
  const uint32_t codes =
      (((small & below_one) | (large & ~below_one)) & 0x00070007u) | ((pair >> 12) & 0x00080008u);
  return (codes | codes >> 12) & 0xffu;
}

// One eight of a block; the four threads of the block call together.
__device__ __forceinline__ void quantize(const QuantizeArgs& args, const uint4& v, int64_t eight,
                                         bool exists) {
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
  uint32_t largest = 0x80008000u;
#pragma unroll
  for (const uint32_t word : words) largest = __vmaxs2(largest, (word & kMagnitudes) + kNumberBias);
  largest = __vmaxs2(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
  largest = __vmaxs2(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
  largest = __vmaxs2(largest, largest >> 16) & 0xffffu;
  const bool no_number = (largest & 0x8000u) != 0;
  const float amax =
      __uint_as_float(no_number ? 0x7fc00000u : (largest - (kNumberBias & 0xffffu)) << 16);
  const uint8_t scale = mxfp4::scale_from_amax(amax, args.rule);
  // A power of two, or zero: bf16 holds it.
  const uint32_t factor =
      (__float_as_uint(mxfp4::quantisation_factor(scale, args.rule)) >> 16) * 0x00010001u;
  uint32_t codes = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) codes |= encode_pair(words[i], factor) << 8 * i;
  if (!exists) return;
  __stcs(reinterpret_cast<uint32_t*>(args.codes) + eight, codes);
  if (eight % kEights == 0) args.scales[eight / kEights] = scale;
}

__global__ void __launch_bounds__(kThreads)
    sm90_quantize_mxfp4(const __grid_constant__ QuantizeArgs args) {
  const int64_t eights = args.blocks * kEights;
  const int64_t step = int64_t{gridDim.x} * kThreads * kAtOnce;
  for (int64_t begin = int64_t{blockIdx.x} * kThreads * kAtOnce; begin < eights; begin += step) {
    uint4 values[kAtOnce] = {};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t eight = begin + i * kThreads + threadIdx.x;
      if (eight < eights) values[i] = __ldcs(reinterpret_cast<const uint4*>(args.values) + eight);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t eight = begin + i * kThreads + threadIdx.x;
      quantize(args, values[i], eight, eight < eights);
    }
  }
}

// Two codes, bits 0 .. 7 of `codes`, times 2^(scale - 127): mxfp4::decode_element.
__device__ __forceinline__ uint32_t decode_pair(uint32_t codes, uint32_t factor, bool nan) {
  // As bf16 with the magnitude's bits at 6 .. 8 a code is its value times 2^-126.
  const uint32_t small = ((codes << 6) & 0x01c0u) | ((codes << 12) & 0x8000u) |
                         ((codes << 18) & 0x01c00000u) | ((codes << 24) & 0x80000000u);
  constexpr uint32_t kTwoTo126 = 0x7e807e80u, kNaN = 0x7fc07fc0u;
  uint32_t pair = multiply_bf16x2(multiply_bf16x2(small, kTwoTo126), factor);
  // Past the largest finite number: that number.
  if ((pair & 0x7fffu) == 0x7f80u) pair -= 1u;
  if ((pair & 0x7fff0000u) == 0x7f800000u) pair -= 1u << 16;
  return nan ? kNaN : pair;
}

__global__ void __launch_bounds__(kThreads)
    sm90_dequantize_mxfp4(const __grid_constant__ DequantizeArgs args) {
  const int64_t eights = args.blocks * kEights;
  const int64_t step = int64_t{gridDim.x} * kThreads * kAtOnce;
  for (int64_t begin = int64_t{blockIdx.x} * kThreads * kAtOnce; begin < eights; begin += step) {
    uint32_t codes[kAtOnce] = {}, scales[kAtOnce] = {};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t eight = begin + i * kThreads + threadIdx.x;
      if (eight >= eights) continue;
      codes[i] = __ldcs(reinterpret_cast<const uint32_t*>(args.codes) + eight);
      scales[i] = args.scales[eight / kEights];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t eight = begin + i * kThreads + threadIdx.x;
      if (eight >= eights) continue;
      const uint32_t factor = (scales[i] == 0 ? 0x0040u : scales[i] << 7) * 0x00010001u;
      const bool nan = scales[i] == mxfp4::kScaleNaN;
      __stcs(reinterpret_cast<uint4*>(args.values) + eight,
             make_uint4(decode_pair(codes[i] & 255u, factor, nan),
                        decode_pair(codes[i] >> 8 & 255u, factor, nan),
                        decode_pair(codes[i] >> 16 & 255u, factor, nan),
                        decode_pair(codes[i] >> 24, factor, nan)));
    }
  }
}

unsigned ctas_for(int64_t blocks) {
  constexpr int64_t kBlocksOfCta = kThreads * kAtOnce / kEights;
  return static_cast<unsigned>(
      std::min<int64_t>((blocks + kBlocksOfCta - 1) / kBlocksOfCta, 65536));
}

}  // namespace

cudaError_t launch_quantize(const QuantizeArgs& args, cudaStream_t stream) {
  if (args.blocks == 0) return cudaSuccess;
  sm90_quantize_mxfp4<<<ctas_for(args.blocks), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t launch_dequantize(const DequantizeArgs& args, cudaStream_t stream) {
  if (args.blocks == 0) return cudaSuccess;
  sm90_dequantize_mxfp4<<<ctas_for(args.blocks), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace moxie::hopper
