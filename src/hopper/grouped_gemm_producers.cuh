// The producers of grouped_gemm.cu: who draws tickets, who copies weights, who gathers rows.
#pragma once

#include "hopper/device/wgmma.cuh"
#include "hopper/grouped_gemm_shared.cuh"

namespace moxie::hopper::grouped {

// Counts a tile of a first product whose outputs are stored: its math warps have said so. Here, not
// there, since the release waits until memory has the stores.
template <class Shape>
__device__ __forceinline__ void count_finished(const Shared<Shape>& shared, const Tile<Shape>& tile,
                                               int lane) {
  const GroupedGemmArgs& args = shared.kernel.args;
  if (args.products == 2 && tile.product == 0 && lane == 0)
    add_release(args.finished + tile.row_tile, static_cast<uint32_t>(Shape::kGroups));
}

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
    Tile<Shape>& tile = shared.tile(at.slot);
    if (turn >= kTileSlots) count_finished<Shape>(shared, tile, lane);
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
        // With e4m3 rows the first product has a factor for each, and no weights.
        const float* weights = product.x_factors != nullptr     ? product.x_factors + tile.x_row[i]
                               : product.row_weights != nullptr ? product.row_weights + source
                                                                : nullptr;
        tile.weight[i] = weights != nullptr ? __ldg(weights) : 1;
      }
    } else if (lane == 0) {
      tile.product = -1;
    }
    __syncwarp();
    if (lane == 0) mbarrier_arrive(&barriers.tile_full[at.slot]);
    if (done) {
      for (int i = 1; i < kTileSlots; ++i) {  // the tiles that are still worked on
        at.advance(1, kTileSlots);
        if (turn + i < kTileSlots) continue;
        mbarrier_wait(&barriers.tile_empty[at.slot], at.parity);
        count_finished<Shape>(shared, shared.tile(at.slot), lane);
      }
      return;
    }
    at.advance(1, kTileSlots);
  }
}

// Requests codes and scales. One warp: the copies of all warpgroups' slots go out together, a lane
// for each. Of a whole panel a tile's codes are one piece, of a third of it a piece for each strip.
template <class Shape>
__device__ __forceinline__ void run_weights(const Shared<Shape>& shared, int lane) {
  constexpr int kPieces = kWholePanels<Shape> ? 1 : kTileStrips;
  constexpr int kCodeLanes = Shape::kGroups * kPieces, kLanes = kCodeLanes + Shape::kGroups;
  static_assert(kLanes <= 32, "a lane a copy");
  const GroupedGemmArgs& args = shared.kernel.args;
  Barriers& barriers = shared.barriers();
  const bool is_codes = lane < kCodeLanes;
  const int group = is_codes ? lane / kPieces : min(lane - kCodeLanes, Shape::kGroups - 1);
  const int strip = is_codes ? lane % kPieces : 0;
  const int block_bytes = is_codes ? kBlockCodes : kBlockScales;
  Place tile_at, at{0, 1};
  int scale_slot = 0;
  for (;;) {
    mbarrier_wait(&barriers.tile_full[tile_at.slot], tile_at.parity);
    const Tile<Shape>& tile = shared.tile(tile_at.slot);
    if (tile.product < 0) return;
    const GroupedProduct& product = args.product[tile.product];
    const int n = product.n, k = product.k, expert = tile.expert;
    const int tile_idx = tile.feature_tile * Shape::kGroups + group;
    __syncwarp();
    if (lane == 0) mbarrier_arrive(&barriers.tile_empty[tile_at.slot]);
    tile_at.advance(1, kTileSlots);
    const int all_blocks = k / mxfp4::kBlock;
    const uint8_t* matrix =
        is_codes ? product.codes + static_cast<int64_t>(expert) * n * (k / 2)
                 : product.scales + static_cast<int64_t>(expert) * n * (k / mxfp4::kBlock);
    for (int first_block = 0; first_block < all_blocks; first_block += mxfp4::kPanelBlocks) {
      const int panel_blocks = min(mxfp4::kPanelBlocks, all_blocks - first_block);
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
          bulk_copy(
              shared.codes(group, at.slot) + strip * (Shape::kSlotSteps * kPairCodes),
              panel + begin * kBlockCodes,
              static_cast<uint32_t>((kWholePanels<Shape> ? strips * blocks : blocks) * kBlockCodes),
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

// Gathers every other four rows (of e4m3: eight) of all stages. One warp of two. A stage announces
// itself when its copies have arrived, so as many are under way as there is room for.
template <class Shape>
class Loader {
 public:
  __device__ Loader(const Shared<Shape>& shared, int loader, int lane)
      : shared_(shared), barriers_(shared.barriers()), loader_(loader), lane_(lane), at_{0, 1} {}

  __device__ __forceinline__ void run() {
    const GroupedGemmArgs& args = shared_.kernel.args;
    Place tile_at;
    for (;;) {
      // Math warps may need what is held back here before there is another tile.
      if (kHeld > 0 &&
          !__all_sync(kAll, mbarrier_test(&barriers_.tile_full[tile_at.slot], tile_at.parity)))
        announce_all();
      mbarrier_wait(&barriers_.tile_full[tile_at.slot], tile_at.parity);
      const Tile<Shape>& tile = shared_.tile(tile_at.slot);
      if (tile.product < 0) break;
      const GroupedProduct& product = args.product[tile.product];
      const int k_bytes = product.k * kElementBytes;
      const int count = (padded_rows<Shape>(tile.rows) / kWarpRows - loader_ + 1) / 2;
      const unsigned char* x = static_cast<const unsigned char*>(product.x) + lane_ % kPieces * 16;
      uint32_t offsets[kCopies];  // in units of 16 bytes
#pragma unroll
      for (int i = 0; i < kCopies; ++i)
        if (i < count)
          offsets[i] = static_cast<uint32_t>(tile.x_row[row_of(i)] *
                                             (product.x_stride * kElementBytes / 16));
      if (tile.product == 1) wait_for_first_product(tile.row_tile);
      __syncwarp();
      if (lane_ == 0) mbarrier_arrive(&barriers_.tile_empty[tile_at.slot]);
      tile_at.advance(1, kTileSlots);
      for (int stage = 0; stage < stages_of<Shape>(product.k); ++stage)
        load(x, k_bytes, stage * Shape::kStageSteps, offsets, count);
    }
    if (kHeld > 0) announce_all();
    async_copy_wait_all();  // no thread ends with copies under way
  }

 private:
  static constexpr int kElementBytes = Shape::kStepBytes / kStepDepth;
  static constexpr int kPieces = Shape::kStepBytes / 16, kWarpRows = 32 / kPieces;
  static constexpr int kCopies = Shape::kRows / (2 * kWarpRows);
  static_assert(Shape::kRows % (2 * kWarpRows) == 0);

  __device__ int row_of(int i) const { return lane_ / kPieces + kWarpRows * (loader_ + 2 * i); }

  __device__ __forceinline__ void wait_for_first_product(int row_tile) {
    const uint32_t all = static_cast<uint32_t>(
        Shape::kGroups * feature_tiles_of<Shape>(shared_.kernel.args.product[0].n));
    // What is waited for may be this CTA's own work.
    if (kHeld > 0 && __any_sync(kAll, load_acquire(shared_.kernel.args.finished + row_tile) < all))
      announce_all();
    while (load_acquire(shared_.kernel.args.finished + row_tile) < all) {
    }
  }

  // One stage from step `first` on; `x` and `offsets` are this lane's.
  __device__ __forceinline__ void load(const unsigned char* x, int k_bytes, int first,
                                       const uint32_t (&offsets)[kCopies], int count) {
    mbarrier_wait(&barriers_.x_empty[at_.slot], at_.parity);
    const int piece = lane_ % kPieces, row = row_of(0);
    // The swizzle of wgmma's operand: by rows of 128 bytes, or by pairs of rows of 64.
    const int place = kPieces == 8 ? piece ^ (row & 7) : piece ^ (row >> 1 & 3);
#pragma unroll
    for (int i = 0; i < Shape::kStageSteps; ++i) {
      const int step = first + i;
      // Past the end of k zeros, which meet weights of zero.
      const bool valid = step * Shape::kStepBytes + piece * 16 < k_bytes;
      const uint4* from = reinterpret_cast<const uint4*>(valid ? x + step * Shape::kStepBytes : x);
      const int rows = kCloseRows<Shape> ? 8 * count : shared_.kernel.tile_rows;
      const uint32_t to = shared_address(shared_.x(at_.slot, i, rows)) +
                          static_cast<uint32_t>(row * Shape::kStepBytes + (place << 4));
#pragma unroll
      for (int j = 0; j < kCopies; ++j)
        if (j < count)
          async_copy_16(to + j * 2 * kWarpRows * Shape::kStepBytes, from + offsets[j], valid);
    }
    if constexpr (kLoadersFence<Shape>) {
      async_copy_commit();
      if (++held_ > kHeld) {
        async_copy_wait<kHeld>();
        announce();
      }
    } else {
      async_copy_arrive(&barriers_.x_full[at_.slot]);
    }
    at_.advance(1, shared_.kernel.x_stages);
  }

  // Stages that are under way when the one before them is announced: two less than the ring has.
  static constexpr int kHeld = kLoadersFence<Shape> && Shape::kStageSteps < kPanelSteps ? 1 : 0;
  static constexpr unsigned kAll = 0xffffffffu;
  // The oldest stage held, which has arrived.
  __device__ __forceinline__ void announce() {
    fence_shared_for_wgmma();
    mbarrier_arrive(&barriers_.x_full[oldest_.slot]);
    oldest_.advance(1, shared_.kernel.x_stages);
    --held_;
  }
  __device__ __forceinline__ void announce_all() {
    async_copy_wait_all();
    while (held_ > 0) announce();
  }

  const Shared<Shape>& shared_;
  Barriers& barriers_;
  int loader_, lane_, held_ = 0;
  Place at_, oldest_;
};

}  // namespace moxie::hopper::grouped
