// Rows of bf16 to e4m3 on Hopper. Implements quantize_rows.h.
//
// Work    a CTA a row, a thread a block of 32; the first is kept in registers, others read again
// Cost    3 bytes an element
// Needs   sm_89 (conversion to e4m3)
#include "hopper/device/decode_fp8.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/quantize_rows.h"
#include "mxfp4/block.h"

namespace moxie::hopper {
namespace {

constexpr int kThreads = 96;  // 2880 = 90 * 32
constexpr float kLargestE4m3 = 448;

struct Block {
  uint4 pieces[4];  // 8 elements each
};
__device__ Block load(const bf16* row, int block) {
  Block b;
  const uint4* from = reinterpret_cast<const uint4*>(row + block * mxfp4::kBlock);
#pragma unroll
  for (int i = 0; i < 4; ++i) b.pieces[i] = __ldg(from + i);
  return b;
}

// Magnitudes of bf16 order like their bits; of pairs, each half for itself.
__device__ uint32_t largest(const Block& b, uint32_t so_far) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    for (const uint32_t pair : {b.pieces[i].x, b.pieces[i].y, b.pieces[i].z, b.pieces[i].w})
      so_far = __vmaxu2(so_far, pair & 0x7fff7fffu);
  return so_far;
}

__device__ uint32_t four(float a, float b, float c, float d) {
  uint16_t low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
  return low | static_cast<uint32_t>(high) << 16;
}
__device__ float low_half(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ float high_half(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// Byte i of word t is element 8 * i + 2 * t, of word 4 + t the one after it.
__device__ void store(const Block& b, float scale, uint8_t* row, int block) {
  uint32_t even[4], odd[4];
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4& v = b.pieces[i];
      pairs[i] = t == 0 ? v.x : t == 1 ? v.y : t == 2 ? v.z : v.w;
    }
    even[t] = four(low_half(pairs[0]) * scale, low_half(pairs[1]) * scale,
                   low_half(pairs[2]) * scale, low_half(pairs[3]) * scale);
    odd[t] = four(high_half(pairs[0]) * scale, high_half(pairs[1]) * scale,
                  high_half(pairs[2]) * scale, high_half(pairs[3]) * scale);
  }
  uint4* to = reinterpret_cast<uint4*>(row + block * mxfp4::kBlock);
  to[0] = make_uint4(even[0], even[1], even[2], even[3]);
  to[1] = make_uint4(odd[0], odd[1], odd[2], odd[3]);
}

__global__ void __launch_bounds__(kThreads)
    sm90_quantize_rows_e4m3(const __grid_constant__ QuantizeRowsArgs args) {
  __shared__ uint32_t of_warps[kThreads / 32];
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int thread = static_cast<int>(threadIdx.x), blocks = args.k / mxfp4::kBlock;
  const int64_t row = blockIdx.x;
  const bf16* x = args.x + row * args.x_stride;
  uint8_t* out = args.out + row * args.k;
  Block first{};
  uint32_t most = 0;
  if (thread < blocks) first = load(x, thread), most = largest(first, most);
  for (int block = thread + kThreads; block < blocks; block += kThreads)
    most = largest(load(x, block), most);
  most = __reduce_max_sync(0xffffffffu, max(most & 0xffffu, most >> 16));
  if (thread % 32 == 0) of_warps[thread / 32] = most;
  __syncthreads();  // the warps' largest are written
#pragma unroll
  for (const uint32_t of_warp : of_warps) most = max(most, of_warp);
  const float bits = __uint_as_float(most << 16);  // infinities and NaN stay what they are
  const float largest_value = bits < kLeastLargest ? kLeastLargest : bits;
  const float scale = __fdiv_rn(kLargestE4m3, largest_value);
  if (thread == 0) args.factors[row] = __fdiv_rn(largest_value, kLargestE4m3);
  if (thread < blocks) store(first, scale, out, thread);
  for (int block = thread + kThreads; block < blocks; block += kThreads)
    store(load(x, block), scale, out, block);
}

}  // namespace

cudaError_t launch_quantize_rows(const QuantizeRowsArgs& args, cudaStream_t stream) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(args.rows));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, sm90_quantize_rows_e4m3, args);
}

}  // namespace moxie::hopper
