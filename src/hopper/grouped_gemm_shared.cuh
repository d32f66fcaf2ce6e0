// What the roles of grouped_gemm.cu share: sizes, the shapes of its tiles, and where things lie in
// shared memory.
#pragma once

#include <cstdint>

#include "hopper/device/decode.cuh"
#include "hopper/device/decode_fp8.cuh"
#include "hopper/device/pairs.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/grouped_gemm.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper::grouped {

constexpr int kMaxMathGroups = 4, kGroupThreads = 128, kLoaders = 2;
constexpr int kStepDepth = mxfp4::kPairBlocks * mxfp4::kBlock;  // 64 of k: 4 wgmmas
constexpr int kPanelSteps = mxfp4::kPanelBlocks / mxfp4::kPairBlocks;
static_assert(mxfp4::kPanelBlocks % mxfp4::kPairBlocks == 0);
constexpr int kTileStrips = mxfp4::kTileRows / mxfp4::kStripRows;
constexpr int kBlockCodes = 256, kBlockScales = 16;  // bytes of a strip, one block deep
constexpr int kPairCodes = 2 * kBlockCodes, kPairScales = 2 * kBlockScales;
constexpr int kRowBytes = kStepDepth * 2;  // of a row's step in bf16
constexpr int kStagedRows = 32, kStagedPitch = mxfp4::kTileRows * 2 + 16;
constexpr int kMaxStages = 12, kMaxCodeSlots = 8, kTileSlots = 3;
constexpr unsigned kPollNanoseconds = 100;  // 20 and 400 were no faster
constexpr int kSharedLimit = 227 * 1024;

// For a handful of rows: math warps for themselves, each with two strips and two slots of panels.
struct Few {
  static constexpr int kWarpStrips = 2, kSlots = 2;
  static constexpr int kGroups = 4, kGroupWarps = 2;  // tiles of 64 features, warps of each
  static constexpr int kRows = 32;
  static constexpr int kStageSteps = kPanelSteps, kSlotSteps = kPanelSteps;
  static constexpr int kScaleSlots = kSlots, kStepBytes = kRowBytes;
};
// For some rows, by panels of weights. Rows come by panels, too, where two of them fit.
template <int kWarpgroups, int kMaxRows>
struct Panels {
  static constexpr int kWarpStrips = 0, kGroupWarps = 4;
  static constexpr int kGroups = kWarpgroups, kRows = kMaxRows;
  static constexpr int kStageSteps = kMaxRows <= 48 ? kPanelSteps : 3, kSlotSteps = kPanelSteps;
  static constexpr int kScaleSlots = kMaxCodeSlots;  // a slot's scales are copied with its codes
  static constexpr int kStepBytes = kRowBytes;       // of a row
};
// For many.
struct Dense {
  static constexpr int kWarpStrips = 0, kGroupWarps = 4;
  static constexpr int kGroups = 3, kRows = 192, kStageSteps = 1, kSlotSteps = 3;
  static constexpr int kScaleSlots = 4;  // by panels
  static constexpr int kStepBytes = kRowBytes;
};
// The same with rows of e4m3: a step of a row is half as long.
struct Fp8Sparse {
  static constexpr int kWarpStrips = 0, kGroupWarps = 4;
  static constexpr int kGroups = 3, kRows = 64, kStageSteps = 3, kSlotSteps = kPanelSteps;
  static constexpr int kScaleSlots = kMaxCodeSlots;
  static constexpr int kStepBytes = kStepDepth;
};
struct Fp8Dense : Dense {
  static constexpr int kStageSteps = 3, kStepBytes = kStepDepth;
};
// More rows to a decoded weight: sums in two chains, of half the rows each.
struct Fp8TwoChains : Fp8Dense {
  static constexpr int kGroups = 2, kRows = 320;
};
template <class Shape>
constexpr int kChains = 1;
template <>
inline constexpr int kChains<Fp8TwoChains> = 2;
// Up to 96 rows: steps of a stage lie as close as the rows that there are let them, and results go
// to memory from registers.
template <class Shape>
constexpr bool kCloseRows = false;
template <>
inline constexpr bool kCloseRows<Few> = true;
template <int kWarpgroups, int kMaxRows>
inline constexpr bool kCloseRows<Panels<kWarpgroups, kMaxRows>> = true;
// Loaders wait for the copies of rows and fence them for wgmma. Math warps would wait for more than
// these.
template <class Shape>
constexpr bool kLoadersFence = kCloseRows<Shape> && Shape::kWarpStrips == 0;
template <class Shape>
constexpr bool kWholePanels = Shape::kSlotSteps == kPanelSteps;
template <class Shape>
constexpr int kSlotBytes = Shape::kSlotSteps * kTileStrips * kPairCodes;
constexpr int kScaleBytes = kPanelSteps * kTileStrips * kPairScales;  // of a panel
static_assert(kPanelSteps % Dense::kSlotSteps == 0 && kPanelSteps % Fp8Sparse::kStageSteps == 0);
template <class Shape>
constexpr int kMathWarps = Shape::kGroups * Shape::kGroupWarps;
template <class Shape>
constexpr int kThreads = (kMathWarps<Shape> + 4) * 32;
// Memory of a group between registers and stores of whole rows; two slots where more than one is
// written for a tile.
template <class Shape>
constexpr int kStagedSlots = kCloseRows<Shape>            ? 0
                             : Shape::kRows > kStagedRows ? 2
                                                          : 1;
template <class Shape>
constexpr int kStagedBytes = kStagedSlots<Shape> * kStagedRows * kStagedPitch;
// All registers of an SM: 384 threads begin with 168, 512 with 128, 640 with 96.
template <class Shape>
constexpr int kMathRegisters = Shape::kGroups == 2   ? 224
                               : Shape::kGroups == 3 ? 152
                                                     : 104;
constexpr int kProducerRegisters = 56;

// What a CTA does next; product < 0: nothing more.
template <class Shape>
struct alignas(16) Tile {
  int product, expert, row_tile, feature_tile, rows;
  int x_row[Shape::kRows], out_row[Shape::kRows];
  alignas(8) float weight[Shape::kRows];
};

struct Barriers {
  uint64_t x_full[kMaxStages], x_empty[kMaxStages];
  union {
    struct {
      uint64_t codes_full[kMaxMathGroups][kMaxCodeSlots],
          codes_empty[kMaxMathGroups][kMaxCodeSlots];
    };
    struct {
      uint64_t warp_full[8][2], warp_empty[8][2];  // of math warps that work for themselves
    };
  };
  uint64_t tile_full[kTileSlots], tile_empty[kTileSlots];
};

// Dynamic shared memory, in this order.
struct Places {
  int codes, scales, staged, tiles, barriers, end;
};
template <class Shape>
MOXIE_HOST_DEVICE constexpr int scale_slots(int code_slots) {
  return kWholePanels<Shape> ? code_slots : Shape::kScaleSlots;
}
template <class Shape>
MOXIE_HOST_DEVICE constexpr Places places(int tile_rows, int x_stages, int code_slots) {
  Places p{};
  p.codes = x_stages * Shape::kStageSteps * tile_rows * Shape::kStepBytes;
  p.scales = p.codes + Shape::kGroups * code_slots * kSlotBytes<Shape>;
  p.staged = p.scales + Shape::kGroups * scale_slots<Shape>(code_slots) * kScaleBytes;
  p.tiles = p.staged + Shape::kGroups * kStagedBytes<Shape>;
  p.barriers = p.tiles + kTileSlots * static_cast<int>(sizeof(Tile<Shape>));
  p.end = p.barriers + static_cast<int>(sizeof(Barriers));
  return p;
}

struct Kernel {
  GroupedGemmArgs args;
  int tile_rows, x_stages, code_slots;
  Multipliers multipliers;
};

// A place in a ring, and the parity of its present round.
struct Place {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void advance(int by, int size) {
    slot += by;
    if (slot >= size) slot -= size, parity ^= 1;
  }
};

// Where a math warp is in its rings.
struct MathPlaces {
  Place x, codes;
  int scale_slot = 0;
};

MOXIE_HOST_DEVICE constexpr int steps_of(int k) { return (k + kStepDepth - 1) / kStepDepth; }
template <class Shape>
MOXIE_HOST_DEVICE constexpr int stages_of(int k) {
  return (steps_of(k) + Shape::kStageSteps - 1) / Shape::kStageSteps;
}
template <class Shape>
MOXIE_HOST_DEVICE constexpr int feature_tiles_of(int n) {
  constexpr int kFeatures = Shape::kGroups * mxfp4::kTileRows;
  return (n + kFeatures - 1) / kFeatures;
}

// wgmma's N for so many rows.
template <class Shape>
MOXIE_HOST_DEVICE constexpr int padded_rows(int rows) {
  if (kChains<Shape> == 2) return (rows + 63) / 64 * 64;
  if (kCloseRows<Shape>) return rows <= 64 ? (rows + 7) / 8 * 8 : (rows + 15) / 16 * 16;
  if (Shape::kStepBytes == kRowBytes) return (rows + 15) / 16 * 16;
  if (Shape::kRows > 64) return rows <= 16 ? 16 : (rows + 31) / 32 * 32;
  return rows <= 32 ? (rows + 7) / 8 * 8 : (rows + 15) / 16 * 16;
}

template <class Shape>
struct Shared {
  unsigned char* base;
  Places at;
  const Kernel& kernel;

  __device__ Shared(unsigned char* memory, const Kernel& k)
      : base(memory), at(places<Shape>(k.tile_rows, k.x_stages, k.code_slots)), kernel(k) {}
  // Of a stage, its step `step`; steps of `rows` rows lie one after another.
  __device__ unsigned char* x(int stage, int step, int rows) const {
    return base + (stage * Shape::kStageSteps * kernel.tile_rows + step * rows) * Shape::kStepBytes;
  }
  __device__ unsigned char* x(int stage, int step) const {
    return x(stage, step, kernel.tile_rows);
  }
  __device__ unsigned char* codes(int group, int slot) const {
    return base + at.codes + (group * kernel.code_slots + slot) * kSlotBytes<Shape>;
  }
  __device__ unsigned char* scales(int group, int slot) const {
    return base + at.scales + (group * scale_slots<Shape>(kernel.code_slots) + slot) * kScaleBytes;
  }
  // The same of a math warp that works for itself.
  __device__ unsigned char* warp_codes(int warp, int slot) const {
    return base + at.codes +
           (warp * kernel.code_slots + slot) * (kSlotBytes<Shape> / Shape::kGroupWarps);
  }
  __device__ unsigned char* warp_scales(int warp, int slot) const {
    return base + at.scales +
           (warp * kernel.code_slots + slot) * (kScaleBytes / Shape::kGroupWarps);
  }
  __device__ unsigned char* staged(int group, int slot) const {
    return base + at.staged + group * kStagedBytes<Shape> + slot * kStagedRows * kStagedPitch;
  }
  __device__ Tile<Shape>& tile(int slot) const {
    return reinterpret_cast<Tile<Shape>*>(base + at.tiles)[slot];
  }
  __device__ Barriers& barriers() const { return *reinterpret_cast<Barriers*>(base + at.barriers); }
};

// Whether any of a panel's scales is one that decode_word() cannot take: `pieces` of 16 bytes,
// kMost at most. All lanes take part.
template <int kMost>
__device__ __forceinline__ bool any_large_scale(const unsigned char* scales, int pieces, int lane) {
  uint32_t all = 0;
#pragma unroll
  for (int i = 0; i < kMost; i += 32)
    if (i + lane < pieces) {
      const uint4 v = reinterpret_cast<const uint4*>(scales)[i + lane];
      all |= v.x | v.y | v.z | v.w;
    }
  return __any_sync(0xffffffffu, has_large_scale(all));
}

}  // namespace moxie::hopper::grouped
