// bf16 to MXFP4 blocks and back on Hopper. Implements quantize.h.
//
// Work    a thread makes one block of 32: 64 bytes on one side, 17 on the other
// Cost    81 bytes a block, each moved once
#include <algorithm>

#include "hopper/quantize.h"

namespace moxie::hopper {
namespace {

constexpr int kThreads = 256;
constexpr int kPieces = mxfp4::kBlock * 2 / 16;  // of 16 bytes, the bf16 of a block

__global__ void __launch_bounds__(kThreads)
    sm90_quantize_mxfp4(const __grid_constant__ QuantizeArgs args) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t block = int64_t{blockIdx.x} * kThreads + threadIdx.x; block < args.blocks;
       block += step) {
    float values[mxfp4::kBlock];
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const uint4 v = __ldcs(reinterpret_cast<const uint4*>(args.values) + block * kPieces + piece);
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        values[piece * 8 + 2 * i] = __uint_as_float(words[i] << 16);
        values[piece * 8 + 2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      }
    }
    const uint8_t scale = mxfp4::scale_from_amax(mxfp4::block_amax(values), args.rule);
    const float factor = mxfp4::quantisation_factor(scale, args.rule);
    uint32_t packed[4] = {};
#pragma unroll
    for (int t = 0; t < mxfp4::kBlock; ++t)
      packed[t / 8] |= static_cast<uint32_t>(mxfp4::encode_element(values[t], factor)) << t % 8 * 4;
    __stcs(reinterpret_cast<uint4*>(args.codes) + block,
           make_uint4(packed[0], packed[1], packed[2], packed[3]));
    args.scales[block] = scale;
  }
}

__global__ void __launch_bounds__(kThreads)
    sm90_dequantize_mxfp4(const __grid_constant__ DequantizeArgs args) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t block = int64_t{blockIdx.x} * kThreads + threadIdx.x; block < args.blocks;
       block += step) {
    const uint4 v = __ldcs(reinterpret_cast<const uint4*>(args.codes) + block);
    const uint32_t words[kPieces] = {v.x, v.y, v.z, v.w};
    const uint8_t scale = args.scales[block];
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t codes = words[piece] >> (8 * i);
        const bf16 low = mxfp4::decode_element<bf16>(codes & 15u, scale);
        const bf16 high = mxfp4::decode_element<bf16>((codes >> 4) & 15u, scale);
        pairs[i] = low.bits | static_cast<uint32_t>(high.bits) << 16;
      }
      __stcs(reinterpret_cast<uint4*>(args.values) + block * kPieces + piece,
             make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
    }
  }
}

unsigned ctas_for(int64_t blocks) {
  return static_cast<unsigned>(std::min<int64_t>((blocks + kThreads - 1) / kThreads, 16384));
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
