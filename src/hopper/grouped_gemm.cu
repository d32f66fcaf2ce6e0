// One or two MXFP4 products over rows grouped by expert on Hopper. Implements grouped_gemm.h.
//
// Work    a CTA makes 192 or 384 output features x up to 192 rows of one expert at a time; CTAs
// draw
//         tickets, first product first, so what a second product waits for is always under way
// Warps   three math warpgroups: each takes 64 features as wgmma's M, decodes E2M1 in registers
//         (operand A) and multiplies by rows in shared memory (operand B, N = rows); one warpgroup
//         of producers: a warp that copies weights, two that gather rows, one that draws tickets
// Memory  rows: a ring of stages; weights: a ring of slots for each math warpgroup. Few rows need
//         bytes under way: slots are whole panels, so that a copy is 18 KB. Many rows need room for
//         rows: slots are thirds of panels
// Cost    n * k * 17/32 bytes for each expert hit; 2 * rows * n * k operations beyond ~60 rows
// Needs   sm_90a; n % 16 == 0; k % 32 == 0
#include <algorithm>

#include "hopper/grouped_gemm.h"
#include "hopper/grouped_gemm_math.cuh"
#include "hopper/grouped_gemm_producers.cuh"
#include "hopper/grouped_gemm_shared.cuh"

namespace moxie::hopper {
namespace {

using namespace grouped;  // what this kernel's roles are made of

template <class Shape>
__global__ void __launch_bounds__(kThreads, 1)
    sm90_bf16_mxfp4_grouped_gemm(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const Shared<Shape> shared(memory, kernel);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    Barriers& barriers = shared.barriers();
    for (int i = 0; i < kernel.x_stages; ++i) {
      mbarrier_init(&barriers.x_full[i], kLoaders * 32);
      mbarrier_init(&barriers.x_empty[i], kMathWarps);
    }
    for (int group = 0; group < kMathGroups; ++group)
      for (int slot = 0; slot < kernel.code_slots; ++slot) {
        mbarrier_init(&barriers.codes_full[group][slot], 1);
        mbarrier_init(&barriers.codes_empty[group][slot], 4);
      }
    for (int i = 0; i < kTileSlots; ++i) {
      mbarrier_init(&barriers.tile_full[i], 1);
      mbarrier_init(&barriers.tile_empty[i], kMathWarps + kLoaders + 1);
    }
    fence_mbarrier_init();
  }
  __syncthreads();  // barriers are initialised
  wait_for_previous_kernel();
  let_next_kernel_start();
  // The same for all threads of a warp, and known to the compiler as such.
  const int group = __shfl_sync(0xffffffffu, warp / 4, 0);
  if (group == kMathGroups) {
    release_registers<kProducerRegisters>();
    const int role = warp % 4;
    if (role == 0) {
      run_weights<Shape>(shared, lane);
    } else if (role <= kLoaders) {
      Loader<Shape>(shared, role - 1, lane).run();
    } else {
      run_scheduler<Shape>(shared, lane);
    }
  } else {
    take_registers<kMathRegisters>();
    run_math<Shape>(shared, group, warp % 4, lane);
  }
}

// Where slots are parts of panels: the most of them for which a slot of scales is free again when
// it is written anew. All codes of the panel Dense::kScaleSlots = 4 before must have been read by
// then, so the fewest slots in 3 panels in a row, and one.
int max_code_slots(int k) {
  const int panel_slots = kPanelSteps / Dense::kSlotSteps;
  const int slots = (steps_of(k) + Dense::kSlotSteps - 1) / Dense::kSlotSteps;
  const int panels = (slots + panel_slots - 1) / panel_slots;
  const int last = slots - (panels - 1) * panel_slots;
  const int between = panels == 1   ? 3 * last
                      : panels == 2 ? 2 * last + panel_slots
                                    : last + 2 * panel_slots;
  return std::min(kMaxCodeSlots, between + 1);
}
static_assert(Dense::kScaleSlots == 4, "max_code_slots");

int shared_bytes_of(const GroupedGemmConfig& c) {
  if (c.tile_rows > Sparse<1>::kRows)
    return places<Dense>(c.tile_rows, c.x_stages, c.code_slots).end;
  return places<Sparse<1>>(c.tile_rows, c.x_stages, c.code_slots).end;
}

}  // namespace

bool supports_grouped_gemm(int n, int k) {
  return n > 0 && k > 0 && mxfp4::has_weight_layout(n, k);
}

GroupedGemmConfig grouped_gemm_config(int tiles_per_warpgroup, int tile_rows, int k, int num_sms) {
  GroupedGemmConfig config;
  config.ctas = num_sms;
  config.tiles_per_warpgroup = tiles_per_warpgroup;
  config.tile_rows = tile_rows;
  const bool dense = tile_rows > Sparse<1>::kRows;
  // Stages of rows: as many as there are of a panel where two passes go over it.
  config.x_stages = dense ? 4 : 3;
  config.code_slots = dense ? max_code_slots(k) : 3;
  while (config.code_slots > 2 && shared_bytes_of(config) > kSharedLimit) --config.code_slots;
  while (config.x_stages < kMaxStages) {
    ++config.x_stages;
    if (shared_bytes_of(config) > kSharedLimit) {
      --config.x_stages;
      break;
    }
  }
  config.shared_bytes = shared_bytes_of(config);
  return config;
}

GroupedGemmConfig select_grouped_gemm_config(double rows_per_expert, double experts, int k,
                                             int num_sms) {
  // Measured at H = I = 2880 (docs/measured.md). Wider tiles read rows less often, but few experts
  // have too few of them for all CTAs.
  if (rows_per_expert <= 3) return grouped_gemm_config(1, 16, k, num_sms);
  if (rows_per_expert <= 24) return grouped_gemm_config(experts > 64 ? 2 : 1, 32, k, num_sms);
  if (rows_per_expert <= 80) return grouped_gemm_config(1, 64, k, num_sms);
  return grouped_gemm_config(1, 192, k, num_sms);
}

std::string to_string(const GroupedGemmConfig& c) {
  return "grouped_gemm: " + std::to_string(c.tiles_per_warpgroup * kMathGroups * mxfp4::kTileRows) +
         " features x " + std::to_string(c.tile_rows) + " rows, " + std::to_string(c.x_stages) +
         " stages of rows, " + std::to_string(c.code_slots) + " slots of codes, " +
         std::to_string(c.ctas) + " CTAs, " + std::to_string(c.shared_bytes) +
         " bytes of shared memory";
}

cudaError_t prepare_grouped_gemm() {
  using KernelFunction = void (*)(Kernel);
  const KernelFunction kernels[] = {sm90_bf16_mxfp4_grouped_gemm<Sparse<1>>,
                                    sm90_bf16_mxfp4_grouped_gemm<Sparse<2>>,
                                    sm90_bf16_mxfp4_grouped_gemm<Dense>};
  for (const KernelFunction kernel : kernels) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t launch_grouped_gemm(const GroupedGemmArgs& args, const GroupedGemmConfig& config,
                                cudaStream_t stream) {
  const Kernel kernel{args, config.tile_rows, config.x_stages, config.code_slots};
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.ctas));
  launch.blockDim = dim3(kThreads);
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = 1;
  if (config.tile_rows > Sparse<1>::kRows)
    return cudaLaunchKernelEx(&launch, sm90_bf16_mxfp4_grouped_gemm<Dense>, kernel);
  return config.tiles_per_warpgroup == 1
             ? cudaLaunchKernelEx(&launch, sm90_bf16_mxfp4_grouped_gemm<Sparse<1>>, kernel)
             : cudaLaunchKernelEx(&launch, sm90_bf16_mxfp4_grouped_gemm<Sparse<2>>, kernel);
}

}  // namespace moxie::hopper
