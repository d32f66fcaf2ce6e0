// What the roles of grouped_gemm.cu share: sizes, the shapes of its tiles, and where things lie in
// shared memory.
#pragma once

#include <cstdint>

#include "hopper/device/ptx.cuh"
#include "hopper/grouped_gemm.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper::grouped {

constexpr int kMathGroups = 3, kGroupThreads = 128, kThreads = (kMathGroups + 1) * kGroupThreads;
constexpr int kMathWarps = kMathGroups * 4, kLoaders = 2;
constexpr int kMathRegisters = 152, kProducerRegisters = 56;
constexpr int kStepDepth = mxfp4::kPairBlocks * mxfp4::kBlock;  // 64 of k: 4 wgmmas
constexpr int kPanelSteps = mxfp4::kPanelBlocks / mxfp4::kPairBlocks;
static_assert(mxfp4::kPanelBlocks % mxfp4::kPairBlocks == 0);
constexpr int kTileStrips = mxfp4::kTileRows / mxfp4::kStripRows;
constexpr int kBlockCodes = 256, kBlockScales = 16;  // bytes of a strip, one block deep
constexpr int kPairCodes = 2 * kBlockCodes, kPairScales = 2 * kBlockScales;
constexpr int kMaxRows = 192, kRowBytes = kStepDepth * 2;
constexpr int kStagedRows = 32, kStagedPitch = mxfp4::kTileRows * 2 + 16;
constexpr int kMaxStages = 16, kMaxCodeSlots = 8, kTileSlots = 3;
constexpr int kSharedLimit = 227 * 1024;

// For few rows, with one or two tiles of 64 features a warpgroup.
template <int kTiles>
struct Sparse {
  static constexpr int kM = kTiles, kRows = 64;
  static constexpr int kStageSteps = 3;              // steps of rows in a stage
  static constexpr int kSlotSteps = kPanelSteps;     // of weights in a slot
  static constexpr int kScaleSlots = kMaxCodeSlots;  // a slot's scales are copied with its codes
};
// For many.
struct Dense {
  static constexpr int kM = 1, kRows = kMaxRows, kStageSteps = 1, kSlotSteps = 3;
  static constexpr int kScaleSlots = 4;  // by panels
};
template <class Shape>
constexpr bool kWholePanels = Shape::kSlotSteps == kPanelSteps;
template <class Shape>
constexpr int kSlotBytes = Shape::kSlotSteps * kTileStrips * kPairCodes;
constexpr int kScaleBytes = kPanelSteps * kTileStrips * kPairScales;  // of a panel
static_assert(kPanelSteps % Dense::kSlotSteps == 0 && kPanelSteps % Sparse<1>::kStageSteps == 0);

// What a CTA does next; product < 0: nothing more.
struct alignas(16) Tile {
  int product, expert, row_tile, feature_tile, rows;
  int x_row[kMaxRows], out_row[kMaxRows];
  float weight[kMaxRows];
};

struct Barriers {
  uint64_t x_full[kMaxStages], x_empty[kMaxStages];
  uint64_t codes_full[kMathGroups][kMaxCodeSlots], codes_empty[kMathGroups][kMaxCodeSlots];
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
  p.codes = x_stages * Shape::kStageSteps * tile_rows * kRowBytes;
  p.scales = p.codes + kMathGroups * code_slots * kSlotBytes<Shape>;
  p.staged = p.scales + kMathGroups * scale_slots<Shape>(code_slots) * kScaleBytes;
  p.tiles = p.staged + kMathGroups * kStagedRows * kStagedPitch;
  p.barriers = p.tiles + kTileSlots * static_cast<int>(sizeof(Tile));
  p.end = p.barriers + static_cast<int>(sizeof(Barriers));
  return p;
}

struct Kernel {
  GroupedGemmArgs args;
  int tile_rows, x_stages, code_slots;
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

MOXIE_HOST_DEVICE constexpr int steps_of(int k) { return (k + kStepDepth - 1) / kStepDepth; }
template <class Shape>
MOXIE_HOST_DEVICE constexpr int stages_of(int k) {
  return (steps_of(k) + Shape::kStageSteps - 1) / Shape::kStageSteps;
}
template <class Shape>
MOXIE_HOST_DEVICE constexpr int feature_tiles_of(int n) {
  constexpr int kFeatures = kMathGroups * Shape::kM * mxfp4::kTileRows;
  return (n + kFeatures - 1) / kFeatures;
}

// wgmma's N for so many rows.
template <class Shape>
MOXIE_HOST_DEVICE constexpr int padded_rows(int rows) {
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
  // Of a stage, its step `step`.
  __device__ unsigned char* x(int stage, int step) const {
    return base + (stage * Shape::kStageSteps + step) * kernel.tile_rows * kRowBytes;
  }
  __device__ unsigned char* codes(int group, int slot) const {
    return base + at.codes + (group * kernel.code_slots + slot) * kSlotBytes<Shape>;
  }
  __device__ unsigned char* scales(int group, int slot) const {
    return base + at.scales + (group * scale_slots<Shape>(kernel.code_slots) + slot) * kScaleBytes;
  }
  __device__ unsigned char* staged(int group) const {
    return base + at.staged + group * kStagedRows * kStagedPitch;
  }
  __device__ Tile& tile(int slot) const { return reinterpret_cast<Tile*>(base + at.tiles)[slot]; }
  __device__ Barriers& barriers() const { return *reinterpret_cast<Barriers*>(base + at.barriers); }
};

}  // namespace moxie::hopper::grouped
