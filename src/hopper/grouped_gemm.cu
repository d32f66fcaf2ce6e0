// One or two MXFP4 products over rows grouped by expert on Hopper. Implements grouped_gemm.h.
//
// Work    a CTA makes 192 or 256 output features x up to 192 rows of one expert at a time; CTAs
// draw
//         tickets, first product first, so what a second product waits for is always under way
// Warps   three or four math warpgroups: each takes 64 features as wgmma's M, decodes E2M1 in
//         registers (operand A) and multiplies by rows in shared memory (operand B, N = rows); or,
//         for a handful of rows, eight math warps, each for itself with 32 features and mma.sync.
//         One warp copies weights, two gather rows, one draws tickets
// Memory  rows: a ring of stages; weights: a ring of slots for each math warpgroup, or math warp.
//         Up to 96 rows bytes under way matter: slots are whole panels, so that a copy is 18 or 9
//         KB. Many rows need room for rows: slots are thirds of panels
// Cost    n * k * 17/32 bytes for each expert hit; 2 * rows * n * k operations beyond ~60 rows
// Needs   sm_90a; n % 16 == 0; k % 32 == 0
#include <algorithm>
#include <numeric>
#include <vector>

#include "hopper/grouped_gemm.h"
#include "hopper/grouped_gemm_roles.cuh"

namespace moxie::hopper {
namespace {

using namespace grouped;  // what this kernel's roles are made of

template <class Shape>
__global__ void __launch_bounds__(kThreads<Shape>, 1)
    sm90_bf16_mxfp4_grouped_gemm(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(1024) unsigned char memory[];
  if constexpr (kCloseRows<Shape>)
    run_roles<Shape, PanelProduct>(memory, kernel);
  else
    run_roles<Shape, TileProduct>(memory, kernel);
}

// Where slots are parts of panels: the most of them for which a slot of scales is free again when
// it is written anew. All codes of the panel kScaleSlots before must have been read by then, so the
// fewest slots that kScaleSlots - 1 panels in a row can have, and one; tiles of both products may
// follow each other.
template <class Shape>
int max_code_slots(int k, int second_k) {
  std::vector<int> panels;  // slots of each
  for (const int depth : {k, second_k})
    for (int tile = 0; tile < Shape::kScaleSlots; ++tile)
      for (int step = 0; step < steps_of(depth); step += kPanelSteps)
        panels.push_back((std::min(kPanelSteps, steps_of(depth) - step) + Shape::kSlotSteps - 1) /
                         Shape::kSlotSteps);
  int fewest = kMaxCodeSlots;
  constexpr size_t kBetween = Shape::kScaleSlots - 1;
  for (size_t i = 0; i + kBetween <= panels.size(); ++i)
    fewest =
        std::min(fewest, std::accumulate(panels.begin() + static_cast<ptrdiff_t>(i),
                                         panels.begin() + static_cast<ptrdiff_t>(i + kBetween), 0));
  return std::min(kMaxCodeSlots, fewest + 1);
}

// Calls f with the shape of that name.
template <class F>
auto with_shape(GroupedGemmTiles shape, const F& f) {
  switch (shape) {
    case GroupedGemmTiles::kEightWarps:
      return f(Few{});
    case GroupedGemmTiles::kFourGroups:
      return f(Panels<4, 32>{});
    case GroupedGemmTiles::kThreeGroups:
      return f(Panels<3, 48>{});
    case GroupedGemmTiles::kMoreRows:
      return f(Panels<3, 96>{});
    default:
      break;
  }
  return f(Dense{});
}

int shared_bytes_of(const GroupedGemmConfig& c) {
  if (is_fp8(c.shape)) return grouped_gemm_fp8_shared_bytes(c);
  return with_shape(c.shape, [&](auto shape) {
    return places<decltype(shape)>(c.tile_rows, c.x_stages, c.code_slots).end;
  });
}

}  // namespace

bool supports_grouped_gemm(int n, int k) {
  return n > 0 && k > 0 && mxfp4::has_weight_layout(n, k);
}

GroupedGemmConfig grouped_gemm_config(GroupedGemmTiles shape, int tile_rows, int k, int second_k,
                                      int num_sms) {
  GroupedGemmConfig config;
  config.shape = shape;
  const bool fp8 = is_fp8(shape);
  config.ctas = num_sms;
  config.tile_rows = tile_rows;
  config.row_step = shape <= GroupedGemmTiles::kThreeGroups    ? 8
                    : shape == GroupedGemmTiles::kFp8ManyRows  ? 32
                    : shape == GroupedGemmTiles::kFp8TwoChains ? 64
                                                               : 16;
  // The fewest stages of rows; in e4m3 they are three times as deep for many rows, too.
  const bool many = shape == GroupedGemmTiles::kManyRows;
  const bool fp8_many = fp8 && shape != GroupedGemmTiles::kFp8OneTile;
  config.x_stages = fp8_many ? 2 : many ? 4 : 3;
  config.code_slots = many ? max_code_slots<Dense>(k, second_k) : 3;
  if (fp8_many) config.code_slots = std::min(3, max_code_slots<Fp8Dense>(k, second_k));
  if (shape < GroupedGemmTiles::kManyRows) config.code_slots = config.x_stages = Few::kSlots;
  // Its loaders hold a stage back: with two in the ring nobody would go on.
  if (shape == GroupedGemmTiles::kMoreRows) config.x_stages = 3;
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
                                             int second_k, int num_sms, Activations activations) {
  // Measured at H = I = 2880 (docs/measured.md). Wider tiles read rows less often, but few experts
  // have too few of them for all CTAs.
  using S = GroupedGemmTiles;
  const auto config = [&](S shape, int tile_rows) {
    return grouped_gemm_config(shape, tile_rows, k, second_k, num_sms);
  };
  if (activations == Activations::kFp8)
    return rows_per_expert > 200   ? config(S::kFp8TwoChains, 320)
           : rows_per_expert <= 56 ? config(S::kFp8OneTile, 64)
                                   : config(S::kFp8ManyRows, 192);
  if (rows_per_expert <= 6) return config(S::kEightWarps, 16);
  // Of 192 features a product of 2880 has 15 tiles, of 256 it has 12 for 11.25.
  if (rows_per_expert <= 20 && experts > 64) return config(S::kFourGroups, 32);
  if (rows_per_expert <= 40) return config(S::kThreeGroups, 48);
  if (rows_per_expert <= 80) return config(S::kMoreRows, 96);
  return config(S::kManyRows, 192);
}

std::string to_string(const GroupedGemmConfig& c) {
  const bool fp8 = is_fp8(c.shape);
  const int features = fp8 ? grouped_gemm_fp8_features(c) : with_shape(c.shape, [](auto shape) {
    using Shape = decltype(shape);
    return Shape::kGroups * mxfp4::kTileRows;
  });
  const bool alone = c.shape == GroupedGemmTiles::kEightWarps;
  return std::string(fp8 ? "fp8 " : "") + "grouped_gemm: " + std::to_string(features) +
         " features x " + std::to_string(c.tile_rows) + " rows by " +
         (alone ? "mma.sync" : "wgmma") + ", " + std::to_string(c.x_stages) + " stages of rows, " +
         std::to_string(c.code_slots) + " slots of codes, " + std::to_string(c.ctas) + " CTAs, " +
         std::to_string(c.shared_bytes) + " bytes of shared memory";
}

cudaError_t prepare_grouped_gemm() {
  using KernelFunction = void (*)(Kernel);
  const KernelFunction kernels[] = {
      sm90_bf16_mxfp4_grouped_gemm<Few>, sm90_bf16_mxfp4_grouped_gemm<Panels<4, 32>>,
      sm90_bf16_mxfp4_grouped_gemm<Panels<3, 48>>, sm90_bf16_mxfp4_grouped_gemm<Panels<3, 96>>,
      sm90_bf16_mxfp4_grouped_gemm<Dense>};
  for (const KernelFunction kernel : kernels) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit);
    if (error != cudaSuccess) return error;
  }
  return prepare_grouped_gemm_fp8();
}

cudaError_t launch_grouped_gemm(const GroupedGemmArgs& args, const GroupedGemmConfig& config,
                                cudaStream_t stream) {
  if (is_fp8(config.shape)) return launch_grouped_gemm_fp8(args, config, stream);
  return with_shape(config.shape, [&](auto shape) {
    using Shape = decltype(shape);
    return launch_roles<Shape>(sm90_bf16_mxfp4_grouped_gemm<Shape>, args, config, stream);
  });
}

}  // namespace moxie::hopper
