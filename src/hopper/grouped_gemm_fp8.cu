// One or two products of e4m3 rows by MXFP4 over rows grouped by expert on Hopper: grouped_gemm.cu
// with fp8 tensor cores. Implements what grouped_gemm.h says of rows in e4m3.
//
// Work    as there; weights become e5m2 in registers, which holds them exactly within a window of
//         27 scales of a row and panel; wgmma m64nNk32
// Memory  rows are half as long, so stages are three steps deep for many rows too
// Cost    n * k * 17/32 bytes for each expert hit; 2 * rows * n * k operations at twice bf16's rate
// Needs   sm_90a; n % 16 == 0 (swiglu: n % 64 == 0); k % 32 == 0
#include "hopper/grouped_gemm.h"
#include "hopper/grouped_gemm_fp8_math.cuh"
#include "hopper/grouped_gemm_roles.cuh"

namespace moxie::hopper {
namespace {

using namespace grouped;  // what this kernel's roles are made of

template <class Shape>
__global__ void __launch_bounds__(kThreads<Shape>, 1)
    sm90_fp8_mxfp4_grouped_gemm(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(1024) unsigned char memory[];
  run_roles<Shape, Fp8TileProduct>(memory, kernel);
}

// Calls f with the shape that a configuration stands for.
template <class F>
auto with_shape(const GroupedGemmConfig& c, const F& f) {
  if (c.shape == GroupedGemmTiles::kFp8TwoChains) return f(Fp8TwoChains{});
  if (c.shape == GroupedGemmTiles::kFp8ManyRows) return f(Fp8Dense{});
  return f(Fp8Sparse{});
}

}  // namespace

int grouped_gemm_fp8_shared_bytes(const GroupedGemmConfig& c) {
  return with_shape(c, [&](auto shape) {
    return places<decltype(shape)>(c.tile_rows, c.x_stages, c.code_slots).end;
  });
}

int grouped_gemm_fp8_features(const GroupedGemmConfig& c) {
  return with_shape(c, [](auto shape) { return decltype(shape)::kGroups * mxfp4::kTileRows; });
}

cudaError_t prepare_grouped_gemm_fp8() {
  using KernelFunction = void (*)(Kernel);
  for (const KernelFunction kernel :
       {sm90_fp8_mxfp4_grouped_gemm<Fp8Sparse>, sm90_fp8_mxfp4_grouped_gemm<Fp8Dense>,
        sm90_fp8_mxfp4_grouped_gemm<Fp8TwoChains>}) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t launch_grouped_gemm_fp8(const GroupedGemmArgs& args, const GroupedGemmConfig& config,
                                    cudaStream_t stream) {
  return with_shape(config, [&](auto shape) {
    using Shape = decltype(shape);
    return launch_roles<Shape>(sm90_fp8_mxfp4_grouped_gemm<Shape>, args, config, stream);
  });
}

}  // namespace moxie::hopper
