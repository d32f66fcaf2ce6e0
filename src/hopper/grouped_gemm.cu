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
#include <cuda_bf16.h>

#include <algorithm>

#include "hopper/device/decode.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/grouped_gemm.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

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

// ---- Producers -------------------------------------------------------------------------------

// Draws tickets and writes what they stand for. One warp.
template <class Shape>
__device__ __forceinline__ void run_scheduler(const Shared<Shape>& shared, int lane) {
  const GroupedGemmArgs& args = shared.kernel.args;
  Barriers& barriers = shared.barriers();
  const int tile_rows = shared.kernel.tile_rows;
  const int row_tiles = args.row_tiles != nullptr ? __ldg(args.num_row_tiles)
                                                  : (args.rows + tile_rows - 1) / tile_rows;
  const int first = row_tiles * feature_tiles_of<Shape>(args.product[0].n);
  const int second =
      args.products == 2 ? row_tiles * feature_tiles_of<Shape>(args.product[1].n) : 0;
  Place at{0, 1};
  for (int turn = 0;; ++turn) {
    mbarrier_wait(&barriers.tile_empty[at.slot], at.parity);
    Tile& tile = shared.tile(at.slot);
    int ticket = static_cast<int>(blockIdx.x) + turn * static_cast<int>(gridDim.x);
    if (args.tickets != nullptr) {
      if (lane == 0) ticket = static_cast<int>(atomicAdd(args.tickets, 1u));
      ticket = __shfl_sync(0xffffffffu, ticket, 0);
    }
    const bool done = ticket >= first + second;
    if (!done) {
      const int p = ticket < first ? 0 : 1;
      if (p == 1) ticket -= first;
      const GroupedProduct& product = args.product[p];
      const int features = feature_tiles_of<Shape>(product.n);
      const int row_tile = ticket / features;
      RowTile rows{0, row_tile * tile_rows, min(tile_rows, args.rows - row_tile * tile_rows)};
      if (args.row_tiles != nullptr) rows = args.row_tiles[row_tile];
      if (lane == 0) {
        tile.product = p;
        tile.expert = rows.expert;
        tile.row_tile = row_tile;
        tile.feature_tile = ticket % features;
        tile.rows = rows.rows;
      }
      for (int i = lane; i < padded_rows<Shape>(rows.rows); i += 32) {
        // Rows that fill up N repeat the last one; nothing of theirs is stored.
        const int position = rows.begin + min(i, rows.rows - 1);
        const int source = args.sources != nullptr ? __ldg(args.sources + position) : position;
        tile.x_row[i] = product.gather ? source / args.sources_per_row : position;
        tile.out_row[i] = product.scatter ? source : position;
        tile.weight[i] = product.row_weights != nullptr ? __ldg(product.row_weights + source) : 1;
      }
    } else if (lane == 0) {
      tile.product = -1;
    }
    __syncwarp();
    if (lane == 0) mbarrier_arrive(&barriers.tile_full[at.slot]);
    if (done) return;
    at.advance(1, kTileSlots);
  }
}

// Requests codes and scales. One warp: the copies of all warpgroups' slots go out together, a lane
// for each. Of a whole panel a tile's codes are one piece, of a third of it a piece for each strip.
template <class Shape>
__device__ __forceinline__ void run_weights(const Shared<Shape>& shared, int lane) {
  constexpr int kPieces = kWholePanels<Shape> ? 1 : kTileStrips;
  constexpr int kCodeLanes = kMathGroups * kPieces, kLanes = kCodeLanes + kMathGroups;
  static_assert(kLanes <= 32, "a lane a copy");
  const GroupedGemmArgs& args = shared.kernel.args;
  Barriers& barriers = shared.barriers();
  const bool is_codes = lane < kCodeLanes;
  const int group = is_codes ? lane / kPieces : min(lane - kCodeLanes, kMathGroups - 1);
  const int strip = is_codes ? lane % kPieces : 0;
  const int block_bytes = is_codes ? kBlockCodes : kBlockScales;
  Place tile_at, at{0, 1};
  int scale_slot = 0;
  for (;;) {
    mbarrier_wait(&barriers.tile_full[tile_at.slot], tile_at.parity);
    const Tile& tile = shared.tile(tile_at.slot);
    if (tile.product < 0) return;
    const GroupedProduct& product = args.product[tile.product];
    const int n = product.n, k = product.k, expert = tile.expert;
    const int first_tile = tile.feature_tile * kMathGroups * Shape::kM + group;
    __syncwarp();
    if (lane == 0) mbarrier_arrive(&barriers.tile_empty[tile_at.slot]);
    tile_at.advance(1, kTileSlots);
    const int all_blocks = k / mxfp4::kBlock;
    const uint8_t* matrix =
        is_codes ? product.codes + static_cast<int64_t>(expert) * n * (k / 2)
                 : product.scales + static_cast<int64_t>(expert) * n * (k / mxfp4::kBlock);
    for (int first_block = 0; first_block < all_blocks; first_block += mxfp4::kPanelBlocks) {
      const int panel_blocks = min(mxfp4::kPanelBlocks, all_blocks - first_block);
#pragma unroll 1
      for (int m = 0; m < Shape::kM; ++m) {
        const int tile_idx = first_tile + m * kMathGroups;
        const int strips = max(0, min(kTileStrips, n / mxfp4::kStripRows - tile_idx * kTileStrips));
        const uint8_t* panel = matrix + (static_cast<int64_t>(tile_idx) * kTileStrips * all_blocks +
                                         first_block * strips + strip * panel_blocks) *
                                            block_bytes;
        for (int begin = 0; begin < panel_blocks; begin += 2 * Shape::kSlotSteps) {
          const int blocks = min(2 * Shape::kSlotSteps, panel_blocks - begin);
          const bool with_scales = begin == 0;
          uint64_t* full = &barriers.codes_full[group][at.slot];
          mbarrier_wait(&barriers.codes_empty[group][at.slot], at.parity);
          if (is_codes && strip == 0)
            mbarrier_expect(full, static_cast<uint32_t>(
                                      strips * (blocks * kBlockCodes +
                                                (with_scales ? panel_blocks * kBlockScales : 0))));
          __syncwarp();
          if (is_codes && strip < strips)
            bulk_copy(shared.codes(group, at.slot) + strip * (Shape::kSlotSteps * kPairCodes),
                      panel + begin * kBlockCodes,
                      static_cast<uint32_t>((kWholePanels<Shape> ? strips * blocks : blocks) *
                                            kBlockCodes),
                      full);
          else if (!is_codes && lane < kLanes && strips > 0 && with_scales)
            bulk_copy(shared.scales(group, kWholePanels<Shape> ? at.slot : scale_slot), panel,
                      static_cast<uint32_t>(strips * panel_blocks * kBlockScales), full);
          at.advance(1, shared.kernel.code_slots);
        }
        scale_slot = (scale_slot + 1) % Shape::kScaleSlots;
      }
    }
  }
}

// Gathers every other four rows of all stages. One warp of two.
template <class Shape>
class Loader {
 public:
  __device__ Loader(const Shared<Shape>& shared, int loader, int lane)
      : shared_(shared), barriers_(shared.barriers()), loader_(loader), lane_(lane), at_{0, 1} {}

  __device__ __forceinline__ void run() {
    const GroupedGemmArgs& args = shared_.kernel.args;
    Place tile_at;
    for (;;) {
      mbarrier_wait(&barriers_.tile_full[tile_at.slot], tile_at.parity);
      const Tile& tile = shared_.tile(tile_at.slot);
      if (tile.product < 0) break;
      const GroupedProduct& product = args.product[tile.product];
      const int k = product.k, count = padded_rows<Shape>(tile.rows) / 8;
      const bf16* x = product.x + lane_ % 8 * 8;
      uint32_t offsets[kCopies];  // in units of 16 bytes
#pragma unroll
      for (int i = 0; i < kCopies; ++i)
        if (i < count)
          offsets[i] = static_cast<uint32_t>(tile.x_row[row_of(i)] * (product.x_stride / 8));
      if (tile.product == 1 && !first_product_ended(tile.row_tile)) {
        signal_all();  // which may be what it waits for
        while (!first_product_ended(tile.row_tile)) {
        }
      }
      __syncwarp();
      if (lane_ == 0) mbarrier_arrive(&barriers_.tile_empty[tile_at.slot]);
      tile_at.advance(1, kTileSlots);
      for (int stage = 0; stage < stages_of<Shape>(k); ++stage)
        load(x, k, stage * Shape::kStageSteps, offsets, count);
      // The next tile may come only after this one.
      if (!__all_sync(0xffffffffu,
                      mbarrier_test(&barriers_.tile_full[tile_at.slot], tile_at.parity)))
        signal_all();
    }
    signal_all();
  }

 private:
  static constexpr int kMaxPending = 3, kCopies = Shape::kRows / 8;

  __device__ int row_of(int i) const { return lane_ / 8 + 4 * loader_ + 8 * i; }

  // The same answer in all lanes.
  __device__ __forceinline__ bool first_product_ended(int row_tile) const {
    const uint32_t all = static_cast<uint32_t>(
        kMathGroups * feature_tiles_of<Shape>(shared_.kernel.args.product[0].n));
    uint32_t count = 0;
    if (lane_ == 0) count = load_acquire(shared_.kernel.args.finished + row_tile);
    return __shfl_sync(0xffffffffu, count, 0) >= all;
  }

  // One stage from step `first` on; `x` and `offsets` are this lane's.
  __device__ __forceinline__ void load(const bf16* x, int k, int first,
                                       const uint32_t (&offsets)[kCopies], int count) {
    if (pending_ == kMaxPending) {
      async_copy_wait<kMaxPending - 1>();
      signal_one();
    }
    // Nothing that has arrived may wait for room. Lanes can see different answers.
    if (pending_ > 0 &&
        !__all_sync(0xffffffffu, mbarrier_test(&barriers_.x_empty[at_.slot], at_.parity)))
      signal_all();
    mbarrier_wait(&barriers_.x_empty[at_.slot], at_.parity);
    const int piece = lane_ % 8, row = row_of(0);
#pragma unroll
    for (int i = 0; i < Shape::kStageSteps; ++i) {
      const int step = first + i;
      // Past the end of k zeros, which meet weights of zero.
      const bool valid = step * kStepDepth + piece * 8 < k;
      const uint4* from = reinterpret_cast<const uint4*>(valid ? x + step * kStepDepth : x);
      const uint32_t to = shared_address(shared_.x(at_.slot, i)) +
                          static_cast<uint32_t>(row * kRowBytes + ((piece ^ (row & 7)) << 4));
#pragma unroll
      for (int j = 0; j < kCopies; ++j)
        if (j < count) async_copy_16(to + j * 8 * kRowBytes, from + offsets[j], valid);
    }
    async_copy_commit();
    ++pending_;
    at_.advance(1, shared_.kernel.x_stages);
  }
  // REQUIRES the oldest stage that is pending has arrived in all lanes.
  __device__ __forceinline__ void signal_one() {
    fence_shared_for_wgmma();
    __syncwarp();
    if (lane_ == 0) mbarrier_arrive(&barriers_.x_full[signal_.slot]);
    signal_.advance(1, shared_.kernel.x_stages);
    --pending_;
  }
  __device__ __forceinline__ void signal_all() {
    async_copy_wait<0>();
    while (pending_ > 0) signal_one();
  }

  const Shared<Shape>& shared_;
  Barriers& barriers_;
  int loader_, lane_, pending_ = 0;
  Place at_, signal_;
};

// ---- Math --------------------------------------------------------------------------------------

// The word's values for any scale, in line: a call would keep wgmmas from overlapping. See
// decode_word_any_scale.
__device__ __forceinline__ void decode_any(uint32_t word, uint32_t scale, uint32_t (&pairs)[4]) {
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
__device__ __forceinline__ void interleave(const uint32_t (&low)[4], const uint32_t (&high)[4],
                                           uint32_t* a) {
  a[0] = low[0], a[1] = high[0], a[2] = low[1], a[3] = high[1];
  a[4] = low[2], a[5] = high[2], a[6] = low[3], a[7] = high[3];
}

template <bool kAnyScale>
__device__ __forceinline__ void decode_pair(const uint4& words, uint32_t scales,
                                            uint32_t (&a)[16]) {
  uint32_t low[4], high[4];
  if constexpr (kAnyScale) {
    decode_any(words.x, scales & 255u, low);
    decode_any(words.y, scales >> 8 & 255u, high);
    interleave(low, high, a);
    decode_any(words.z, scales >> 16 & 255u, low);
    decode_any(words.w, scales >> 24, high);
    interleave(low, high, a + 8);
  } else {
    decode_word(words.x, small_factor<0>(scales), low);
    decode_word(words.y, small_factor<1>(scales), high);
    interleave(low, high, a);
    decode_word(words.z, small_factor<2>(scales), low);
    decode_word(words.w, small_factor<3>(scales), high);
    interleave(low, high, a + 8);
  }
}

// Where a math warp is in its rings.
struct MathPlaces {
  Place x, codes;
  int scale_slot = 0;
};

__device__ __forceinline__ float swiglu(float gate, float linear, float alpha, float limit) {
  const float g = fminf(gate, limit), u = fminf(fmaxf(linear, -limit), limit);
  return g / (1.0f + __expf(-alpha * g)) * (u + 1.0f);
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

template <class Shape, int N>
class TileProduct {
 public:
  static constexpr int kM = Shape::kM;

  __device__ __forceinline__ TileProduct(const Shared<Shape>& shared, const Tile& tile,
                                         MathPlaces& places, int group, int warp, int lane)
      : shared_(shared),
        barriers_(shared.barriers()),
        tile_(tile),
        product_(shared.kernel.args.product[tile.product]),
        places_(places),
        group_(group),
        warp_(warp),
        lane_(lane) {}

  __device__ __forceinline__ void run() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      first_feature_[m] = ((tile_.feature_tile * kM + m) * kMathGroups + group_) * mxfp4::kTileRows;
      has_strip_[m] = first_feature_[m] + warp_ * mxfp4::kStripRows < product_.n;
      all_strips_[m] = first_feature_[m] + mxfp4::kTileRows <= product_.n;
#pragma unroll
      for (int i = 0; i < N / 2; ++i) sums_[m][i] = 0;
    }
    const int all_blocks = product_.k / mxfp4::kBlock;
    for (int first = 0; first < all_blocks; first += mxfp4::kPanelBlocks) {
      const int panel_blocks = min(mxfp4::kPanelBlocks, all_blocks - first);
      const Place x = places_.x;
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        places_.x = x;  // every m passes over the panel's rows; the last frees them
        add_panel(m, panel_blocks);
        if (++places_.scale_slot == Shape::kScaleSlots) places_.scale_slot = 0;
      }
    }
#pragma unroll
    for (int m = 0; m < kM; ++m) store(m);
  }

 private:
  __device__ __forceinline__ void add_panel(int m, int panel_blocks) {
    const int steps = (panel_blocks + 1) / 2;
    const bool odd = panel_blocks % 2 != 0;
    // A slot of whole panels holds its strips one after another, others at their full distance.
    const int strip_bytes =
        kWholePanels<Shape> ? panel_blocks * kBlockCodes : Shape::kSlotSteps * kPairCodes;
    bool ordinary = false;
    for (int step = 0; step < steps;) {
      mbarrier_wait(&barriers_.codes_full[group_][places_.codes.slot], places_.codes.parity);
      // The same in all warps of the group: they must execute the same wgmmas.
      if (step == 0) ordinary = all_strips_[m] && !has_large_scales(panel_blocks);
      const unsigned char* codes =
          shared_.codes(group_, places_.codes.slot) + warp_ * strip_bytes + lane_ * 16;
      const unsigned char* scales =
          shared_.scales(group_, kWholePanels<Shape> ? places_.codes.slot : places_.scale_slot) +
          warp_ * panel_blocks * kBlockScales + step * kPairScales + lane_ / 4 * 4;
      const int slot_end = min(step + Shape::kSlotSteps, steps);
      if (ordinary && slot_end - step == Shape::kSlotSteps && !(odd && slot_end == steps)) {
        add_ordinary_slot(m, codes, scales);
        step = slot_end;
      } else {
#pragma unroll 1
        while (step < slot_end) {
          const int count = min(Shape::kStageSteps, slot_end - step);
          const bool last = step + count == slot_end;
          add_stage(m, codes, scales, count, odd && step + count == steps, last);
          codes += Shape::kStageSteps * kPairCodes;
          scales += Shape::kStageSteps * kPairScales;
          step += count;
        }
      }
      places_.codes.advance(1, shared_.kernel.code_slots);
    }
  }

  // Whether the panel that has just arrived has a scale that decode_word() cannot take, in any row
  // of the tile. REQUIRES all strips.
  __device__ __forceinline__ bool has_large_scales(int panel_blocks) const {
    const uint4* scales = reinterpret_cast<const uint4*>(
        shared_.scales(group_, kWholePanels<Shape> ? places_.codes.slot : places_.scale_slot));
    uint32_t all = 0;
#pragma unroll
    for (int i = 0; i < kScaleBytes / 16; i += 32)
      if (i + lane_ < panel_blocks * kTileStrips) {
        const uint4 v = scales[i + lane_];
        all |= v.x | v.y | v.z | v.w;
      }
    return __any_sync(0xffffffffu, has_large_scale(all));
  }

  // A slot of whole pairs without large scales: while the wgmmas of a step run, the next is
  // decoded.
  __device__ __forceinline__ void add_ordinary_slot(int m, const unsigned char* codes,
                                                    const unsigned char* scale_bytes) {
    constexpr int kSteps = Shape::kSlotSteps;
    uint32_t a[2][16];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const uint4 words = *reinterpret_cast<const uint4*>(codes + i * kPairCodes);
      const uint32_t scales = *reinterpret_cast<const uint32_t*>(scale_bytes + i * kPairScales);
      decode_pair<false>(words, scales, a[i % 2]);
      if (i == kSteps - 1) {
        __syncwarp();  // all lanes have read the slot before a copy overwrites it
        if (lane_ == 0) mbarrier_arrive(&barriers_.codes_empty[group_][places_.codes.slot]);
      }
      if (i > 0) {
        wgmma_wait<0>();
        if (i % Shape::kStageSteps == 0) end_stage(m);
      }
      if (i % Shape::kStageSteps == 0 && m == 0)
        mbarrier_wait(&barriers_.x_full[places_.x.slot], places_.x.parity);
      const uint64_t x =
          swizzled_operand(shared_address(shared_.x(places_.x.slot, i % Shape::kStageSteps)));
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < 4; ++j) wgmma_m64k16<N>(sums_[m], a[i % 2] + 4 * j, x + 2 * j);
      wgmma_commit();
    }
    wgmma_wait<0>();
    end_stage(m);
  }

  // Frees the stage after the last pass over it.
  __device__ __forceinline__ void end_stage(int m) {
    if (m == kM - 1 && lane_ == 0) mbarrier_arrive(&barriers_.x_empty[places_.x.slot]);
    places_.x.advance(1, shared_.kernel.x_stages);
  }

  // One stage of rows: `count` steps of weights, zeros after; `half`: the last is a block without
  // partner; `last` of the slot.
  __device__ __forceinline__ void add_stage(int m, const unsigned char* codes,
                                            const unsigned char* scale_bytes, int count, bool half,
                                            bool last) {
    constexpr int kSteps = Shape::kStageSteps;
    uint4 words[kSteps];
    uint32_t scales[kSteps];
    uint32_t all_scales = 0;
    // Bits of steps: those with two blocks, the one with one.
    const uint32_t present = has_strip_[m] ? (1u << count) - 1 : 0;
    const uint32_t half_step = half ? present & (1u << (count - 1)) : 0,
                   whole = present & ~half_step;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      words[i] = make_uint4(0, 0, 0, 0);
      scales[i] = 0;
      if ((whole >> i & 1) != 0) {
        words[i] = *reinterpret_cast<const uint4*>(codes + i * kPairCodes);
        scales[i] = *reinterpret_cast<const uint32_t*>(scale_bytes + i * kPairScales);
      } else if ((half_step >> i & 1) != 0) {
        const uint2 low = *reinterpret_cast<const uint2*>(codes + i * kPairCodes - lane_ * 8);
        words[i] = make_uint4(low.x, low.y, 0, 0);
        scales[i] =
            *reinterpret_cast<const uint16_t*>(scale_bytes + i * kPairScales - lane_ / 4 * 2);
      }
      all_scales |= scales[i];
    }
    uint32_t a[kSteps][16];
    if (!__any_sync(0xffffffffu, has_large_scale(all_scales))) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) decode_pair<false>(words[i], scales[i], a[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kSteps; ++i) decode_pair<true>(words[i], scales[i], a[i]);
    }
    // The vote above came after all lanes had read: a copy may overwrite the slot.
    if (last && lane_ == 0) mbarrier_arrive(&barriers_.codes_empty[group_][places_.codes.slot]);
    if (m == 0) mbarrier_wait(&barriers_.x_full[places_.x.slot], places_.x.parity);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const uint64_t x = swizzled_operand(shared_address(shared_.x(places_.x.slot, i)));
#pragma unroll
      for (int j = 0; j < 4; ++j) wgmma_m64k16<N>(sums_[m], a[i] + 4 * j, x + 2 * j);
    }
    wgmma_commit();
    wgmma_wait<0>();
    end_stage(m);
  }

  // Rounds and stores the 64 features `m`: 32 rows at a time through shared memory, so that whole
  // rows of 128 bytes (swiglu: 64) go out.
  __device__ __forceinline__ void store(int m) {
    const int first_feature = first_feature_[m];
    if (first_feature >= product_.n) return;
    const GroupedGemmArgs& args = shared_.kernel.args;
    const int g = lane_ / 4, t = lane_ % 4;
    const int feature = first_feature + warp_ * mxfp4::kStripRows + g;
    float bias_low = 0, bias_high = 0;
    if (product_.bias != nullptr && has_strip_[m]) {
      const float* bias = product_.bias + static_cast<int64_t>(tile_.expert) * product_.n + feature;
      bias_low = __ldg(bias), bias_high = __ldg(bias + 8);
    }
    const bool swiglu_pairs = product_.swiglu;
    const uint32_t staged = shared_address(shared_.staged(group_));
#pragma unroll
    for (int first_row = 0; first_row < N; first_row += kStagedRows) {
      uint32_t low[4], high[4];  // of 8 rows each
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        constexpr int kLast = N / 8 - 1;
        const int eight = first_row / 8 + i < kLast ? first_row / 8 + i : kLast;
        float v[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) v[j] = sums_[m][4 * eight + j] + (j < 2 ? bias_low : bias_high);
        if (swiglu_pairs) {
          // Gate and linear part are 4 lanes apart: even g takes the pair of rows below 8, odd g
          // that of rows from 8 on.
          const bool even = g % 2 == 0;
          float y[2];
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const float other = __shfl_xor_sync(0xffffffffu, even ? v[2 + j] : v[j], 4);
            y[j] = swiglu(even ? v[j] : other, even ? other : v[2 + j], args.alpha, args.limit);
          }
          low[i] = pack(y[0], y[1]);
          high[i] = 0;
        } else {
          const float* weight = tile_.weight + 8 * eight + 2 * t;
          low[i] = pack(v[0] * weight[0], v[1] * weight[1]);
          high[i] = pack(v[2] * weight[0], v[3] * weight[1]);
        }
      }
      const int piece = lane_ / 8, row = lane_ % 8;
      if (swiglu_pairs) {
        store_transposed(
            staged + static_cast<uint32_t>((8 * piece + row) * kStagedPitch + warp_ * 16), low[0],
            low[1], low[2], low[3]);
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half)
          store_transposed(
              staged + static_cast<uint32_t>((16 * half + piece / 2 * 8 + row) * kStagedPitch +
                                             warp_ * 32 + piece % 2 * 16),
              low[2 * half], high[2 * half], low[2 * half + 1], high[2 * half + 1]);
      }
      named_barrier(1 + group_, kGroupThreads);  // the group's rows are staged
      copy_out(m, first_row, swiglu_pairs);
      named_barrier(1 + group_, kGroupThreads);  // and copied before others are staged
    }
  }

  __device__ __forceinline__ void copy_out(int m, int first_row, bool swiglu_pairs) {
    const int thread = warp_ * 32 + lane_, pieces = swiglu_pairs ? 4 : 8;  // of 16 bytes
    const int features = swiglu_pairs ? product_.n / 2 : product_.n;
    const int first = swiglu_pairs ? first_feature_[m] / 2 : first_feature_[m];
    const unsigned char* staged = shared_.staged(group_);
    for (int i = thread; i < kStagedRows * pieces; i += kGroupThreads) {
      const int row = i / pieces, piece = i % pieces, feature = first + piece * 8;
      if (first_row + row >= tile_.rows || feature >= features) continue;
      uint4 v = *reinterpret_cast<const uint4*>(staged + row * kStagedPitch + piece * 16);
      const int64_t out_row = tile_.out_row[first_row + row];
      if (swiglu_pairs) {
        // Written in the order 0 4 1 5 2 6 3 7.
        v = make_uint4(__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.z, v.w, 0x5410),
                       __byte_perm(v.x, v.y, 0x7632), __byte_perm(v.z, v.w, 0x7632));
      } else if (product_.residual != nullptr) {
        const uint4 r = *reinterpret_cast<const uint4*>(
            product_.residual + out_row * product_.residual_stride + feature);
        v.x = add(v.x, r.x), v.y = add(v.y, r.y), v.z = add(v.z, r.z), v.w = add(v.w, r.w);
      }
      *reinterpret_cast<uint4*>(product_.out + out_row * product_.out_stride + feature) = v;
    }
  }
  __device__ __forceinline__ static uint32_t add(uint32_t a, uint32_t b) {
    const float2 x = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&a));
    const float2 y = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&b));
    return pack(x.x + y.x, x.y + y.y);
  }

  const Shared<Shape>& shared_;
  Barriers& barriers_;
  const Tile& tile_;
  const GroupedProduct& product_;
  MathPlaces& places_;
  int group_, warp_, lane_;
  int first_feature_[kM];
  bool has_strip_[kM], all_strips_[kM];
  float sums_[kM][N / 2];
};

template <class Shape>
__device__ __forceinline__ void run_math(const Shared<Shape>& shared, int group, int warp,
                                         int lane) {
  Barriers& barriers = shared.barriers();
  Place tile_at;
  MathPlaces places;
  for (;;) {
    mbarrier_wait(&barriers.tile_full[tile_at.slot], tile_at.parity);
    const Tile& tile = shared.tile(tile_at.slot);
    if (tile.product < 0) return;
#define MOXIE_ROWS(N)                                                     \
  case N:                                                                 \
    TileProduct<Shape, N>(shared, tile, places, group, warp, lane).run(); \
    break;
    if constexpr (Shape::kRows > 64) {
      switch (padded_rows<Shape>(tile.rows)) {
        MOXIE_ROWS(16)
        MOXIE_ROWS(32)
        MOXIE_ROWS(64)
        MOXIE_ROWS(96)
        MOXIE_ROWS(128)
        MOXIE_ROWS(160)
        MOXIE_ROWS(192)
      }
    } else {
      switch (padded_rows<Shape>(tile.rows)) {
        MOXIE_ROWS(8)
        MOXIE_ROWS(16)
        MOXIE_ROWS(24)
        MOXIE_ROWS(32)
        MOXIE_ROWS(48)
        MOXIE_ROWS(64)
      }
    }
#undef MOXIE_ROWS
    if (shared.kernel.args.products == 2 && tile.product == 0 && warp == 0 && lane == 0)
      add_release(shared.kernel.args.finished + tile.row_tile, 1);  // store() ended with a barrier
    __syncwarp();
    if (lane == 0) mbarrier_arrive(&barriers.tile_empty[tile_at.slot]);
    tile_at.advance(1, kTileSlots);
  }
}

template <class Shape>
__global__ void __launch_bounds__(kThreads, 1)
    sm90_bf16_mxfp4_grouped_gemm(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const Shared<Shape> shared(memory, kernel);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    Barriers& barriers = shared.barriers();
    for (int i = 0; i < kernel.x_stages; ++i) {
      mbarrier_init(&barriers.x_full[i], kLoaders);
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
