// Who does what in a CTA of grouped_gemm.cu and grouped_gemm_fp8.cu.
#pragma once

#include "hopper/grouped_gemm_few_rows.cuh"
#include "hopper/grouped_gemm_math.cuh"
#include "hopper/grouped_gemm_panels.cuh"
#include "hopper/grouped_gemm_producers.cuh"
#include "hopper/grouped_gemm_shared.cuh"

namespace moxie::hopper::grouped {

// All of such a kernel; `memory` is its dynamic shared memory, 1024-byte aligned.
template <class Shape, template <class, int> class Product>
__device__ __forceinline__ void run_roles(unsigned char* memory, const Kernel& kernel) {
  constexpr bool kAlone = Shape::kWarpStrips > 0;  // math warps work each for itself
  const Shared<Shape> shared(memory, kernel);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    Barriers& barriers = shared.barriers();
    for (int i = 0; i < kernel.x_stages; ++i) {
      mbarrier_init(&barriers.x_full[i], kLoaders * 32);
      mbarrier_init(&barriers.x_empty[i], kMathWarps<Shape>);
    }
    for (int slot = 0; slot < kernel.code_slots; ++slot)
      if constexpr (kAlone) {
        for (int i = 0; i < kMathWarps<Shape>; ++i) {
          mbarrier_init(&barriers.warp_full[i][slot], 1);
          mbarrier_init(&barriers.warp_empty[i][slot], 1);
        }
      } else {
        for (int group = 0; group < Shape::kGroups; ++group) {
          mbarrier_init(&barriers.codes_full[group][slot], 1);
          mbarrier_init(&barriers.codes_empty[group][slot], Shape::kGroupWarps);
        }
      }
    // Who asks for weights reads a tile, too: a warp, or a lane for each math warp.
    constexpr int kAskers = kAlone ? kMathWarps<Shape> : 1;
    for (int i = 0; i < kTileSlots; ++i) {
      mbarrier_init(&barriers.tile_full[i], 1);
      mbarrier_init(&barriers.tile_empty[i], kMathWarps<Shape> + kLoaders + kAskers);
    }
    fence_mbarrier_init();
  }
  __syncthreads();  // barriers are initialised
  wait_for_previous_kernel();
  let_next_kernel_start();
  if (warp >= kMathWarps<Shape>) {
    if constexpr (!kAlone) release_registers<kProducerRegisters>();
    const int role = warp - kMathWarps<Shape>;
    if (role == 0) {
      if constexpr (kAlone) {
        run_panels<Shape>(shared, lane);
      } else {
        run_weights<Shape>(shared, lane);
      }
    } else if (role <= kLoaders) {
      Loader<Shape>(shared, role - 1, lane).run();
    } else {
      run_scheduler<Shape>(shared, lane);
    }
  } else if constexpr (kAlone) {
    run_few_rows<Shape>(shared, warp, lane);
  } else {
    take_registers<kMathRegisters<Shape>>();
    // The same for all threads of a warp, and known to the compiler as such.
    const int group = __shfl_sync(0xffffffffu, warp / Shape::kGroupWarps, 0);
    run_math<Shape, Product>(shared, group, warp % Shape::kGroupWarps, lane);
  }
}

// Launches it so that it may begin before the kernel before it has ended.
template <class Shape>
cudaError_t launch_roles(void (*function)(Kernel), const GroupedGemmArgs& args,
                         const GroupedGemmConfig& config, cudaStream_t stream) {
  const Kernel kernel{args, config.tile_rows, config.x_stages, config.code_slots, {}};
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.ctas));
  launch.blockDim = dim3(kThreads<Shape>);
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = 1;
  return cudaLaunchKernelEx(&launch, function, kernel);
}

}  // namespace moxie::hopper::grouped
