// The math warps of grouped_gemm.cu for few rows of an expert: each works for itself with mma.sync,
// so that none waits for the other three of a warpgroup, and a result goes from registers to
// memory.
#pragma once

#include "hopper/device/decode.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/grouped_gemm_shared.cuh"
#include "hopper/grouped_gemm_store.cuh"

namespace moxie::hopper::grouped {

// Asks for weights, by panels. One warp; a lane works for a math warp, and none waits for another:
// issuing copies takes time that math warps do not have, and these drift apart.
template <class Shape>
__device__ __forceinline__ void run_panels(const Shared<Shape>& shared, int lane) {
  constexpr int kStrips = Shape::kWarpStrips;
  const GroupedGemmArgs& args = shared.kernel.args;
  Barriers& barriers = shared.barriers();
  const int warp = min(lane, kMathWarps<Shape> - 1);
  Place tile_at, at{0, 1};
  const uint8_t *codes = nullptr, *scales = nullptr;  // of the next panel, this warp's first strip
  int64_t next = 0;                                   // blocks of a strip from panel to panel
  int blocks_left = 0, strips = 0, before = 0;
  bool done = lane >= kMathWarps<Shape>;
  while (!__all_sync(0xffffffffu, done)) {
    if (done) {
    } else if (blocks_left == 0) {
      if (mbarrier_test(&barriers.tile_full[tile_at.slot], tile_at.parity)) {
        const Tile<Shape>& tile = shared.tile(tile_at.slot);
        done = tile.product < 0;
        if (!done) {
          const GroupedProduct& product = args.product[tile.product];
          const int all_blocks = product.k / mxfp4::kBlock;
          const int all_strips = product.n / mxfp4::kStripRows;
          const int first = (tile.feature_tile * kMathWarps<Shape> + warp) * kStrips;
          before = first % kTileStrips;
          strips = min(max(all_strips - first, 0), kStrips);
          next = min(kTileStrips, all_strips - (first - before));
          const int64_t strip = static_cast<int64_t>(tile.expert) * all_strips + (first - before);
          codes = product.codes + strip * all_blocks * kBlockCodes;
          scales = product.scales + strip * all_blocks * kBlockScales;
          blocks_left = all_blocks;
          mbarrier_arrive(&barriers.tile_empty[tile_at.slot]);
          tile_at.advance(1, kTileSlots);
        }
      }
    } else if (mbarrier_test(&barriers.warp_empty[warp][at.slot], at.parity)) {
      const int blocks = min(mxfp4::kPanelBlocks, blocks_left), ours = strips * blocks;
      uint64_t* barrier = &barriers.warp_full[warp][at.slot];
      mbarrier_expect(barrier, static_cast<uint32_t>(ours * (kBlockCodes + kBlockScales)));
      if (ours > 0) {
        bulk_copy(shared.warp_codes(warp, at.slot), codes + before * blocks * kBlockCodes,
                  static_cast<uint32_t>(ours * kBlockCodes), barrier);
        bulk_copy(shared.warp_scales(warp, at.slot), scales + before * blocks * kBlockScales,
                  static_cast<uint32_t>(ours * kBlockScales), barrier);
      }
      codes += blocks * next * kBlockCodes;
      scales += blocks * next * kBlockScales;
      blocks_left -= blocks;
      at.advance(1, Shape::kSlots);
    }
    __nanosleep(kPollNanoseconds);
  }
}

// kTiles * 8 rows by Shape::kWarpStrips strips of 16 features. The order of sums is that of
// TileProduct, and mma.sync rounds like wgmma: the bits are the same.
template <class Shape, int kTiles>
class StripProduct {
 public:
  static constexpr int kStrips = Shape::kWarpStrips;

  __device__ __forceinline__ StripProduct(const Shared<Shape>& shared, const Tile<Shape>& tile,
                                          MathPlaces& places, int warp, int lane)
      : shared_(shared),
        barriers_(shared.barriers()),
        tile_(tile),
        product_(shared.kernel.args.product[tile.product]),
        places_(places),
        warp_(warp),
        lane_(lane) {}

  __device__ __forceinline__ void run() {
    first_strip_ = (tile_.feature_tile * kMathWarps<Shape> + warp_) * kStrips;
    const int all_strips = product_.n / mxfp4::kStripRows;
    strips_ = min(max(all_strips - first_strip_, 0), kStrips);
    const float* bias = product_.bias == nullptr
                            ? nullptr
                            : product_.bias + static_cast<int64_t>(tile_.expert) * product_.n +
                                  first_strip_ * mxfp4::kStripRows + lane_ / 4;
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
      bias_[s][0] = bias_[s][1] = 0;
      if (bias != nullptr && s < strips_) {  // asked for long before it is needed
        bias_[s][0] = __ldg(bias + s * mxfp4::kStripRows);
        bias_[s][1] = __ldg(bias + s * mxfp4::kStripRows + 8);
      }
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums_[s][t][i] = 0;
    }
    // Where ldmatrix reads: this lane's row and piece of 8 of k.
    const uint32_t row = static_cast<uint32_t>(lane_ % 8), piece = static_cast<uint32_t>(lane_ / 8);
    x_low_ = row * kRowBytes + ((piece ^ row) << 4);
    const int all_blocks = product_.k / mxfp4::kBlock;
    for (int first = 0; first < all_blocks; first += mxfp4::kPanelBlocks) {
      add_panel(min(mxfp4::kPanelBlocks, all_blocks - first));
    }
#pragma unroll
    for (int s = 0; s < kStrips; ++s)
      store_strip<kTiles>(shared_.kernel.args, product_, tile_, first_strip_ + s, s < strips_,
                          bias_[s], lane_, &sums_[s][0][0]);
  }

 private:
  static constexpr unsigned kAll = 0xffffffffu;
  static constexpr uint32_t kStepBytes = kTiles * 8 * kRowBytes;
  static constexpr int kTogether = 3;  // steps whose instructions mix

  __device__ __forceinline__ void add_panel(int blocks) {
    const int slot = places_.codes.slot, x_slot = places_.x.slot;
    mbarrier_wait(&barriers_.warp_full[warp_][slot], places_.codes.parity);
    const int steps = (blocks + 1) / 2;
    const bool fast = strips_ == kStrips && blocks % (2 * kTogether) == 0 &&
                      !any_large_scale<mxfp4::kPanelBlocks * kStrips>(
                          shared_.warp_scales(warp_, slot), blocks * kStrips, lane_);
    const unsigned char* codes = shared_.warp_codes(warp_, slot) + lane_ * 16;
    const unsigned char* scales = shared_.warp_scales(warp_, slot) + lane_ / 4 * 4;
    mbarrier_wait(&barriers_.x_full[x_slot], places_.x.parity);
    const uint32_t x = shared_address(shared_.x(x_slot, 0, 8 * kTiles)) + x_low_;
    if (fast) {
      add_whole(codes, scales, x, blocks);
    } else if (strips_ > 0) {
#pragma unroll 1
      for (int i = 0; i < steps; ++i)
        add_any(codes, scales, x + i * kStepBytes, blocks, i, blocks % 2 != 0 && i == steps - 1);
    }
    __syncwarp();  // all lanes have read what copies may now overwrite
    if (lane_ == 0) {
      mbarrier_arrive(&barriers_.warp_empty[warp_][slot]);
      mbarrier_arrive(&barriers_.x_empty[x_slot]);
    }
    places_.codes.advance(1, Shape::kSlots);
    places_.x.advance(1, shared_.kernel.x_stages);
  }

  // Pairs of blocks, kTogether at a time, without large scales.
  __device__ __forceinline__ void add_whole(const unsigned char* codes, const unsigned char* scales,
                                            uint32_t x, int blocks) {
    const int strip_codes = blocks * kBlockCodes, strip_scales = blocks * kBlockScales;
    const unsigned char* end = codes + strip_codes;
#pragma unroll 1
    for (; codes != end; codes += kTogether * kPairCodes, scales += kTogether * kPairScales,
                         x += kTogether * kStepBytes) {
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        uint32_t a[kStrips][16];
#pragma unroll
        for (int s = 0; s < kStrips; ++s)
          decode_pair_by(
              *reinterpret_cast<const uint4*>(codes + s * strip_codes + i * kPairCodes),
              *reinterpret_cast<const uint32_t*>(scales + s * strip_scales + i * kPairScales),
              shared_.kernel.multipliers.by128, a[s]);
        multiply(a, x + i * kStepBytes);
      }
    }
  }

  // Step `step` of a panel; `single`: a block without partner.
  __device__ __forceinline__ void add_any(const unsigned char* codes, const unsigned char* scales,
                                          uint32_t x, int blocks, int step, bool single) {
    uint32_t a[kStrips][16];
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
      uint4 words = make_uint4(0, 0, 0, 0);
      uint32_t four = 0;
      if (s < strips_) {
        const unsigned char* c = codes + s * blocks * kBlockCodes + step * kPairCodes;
        const unsigned char* b = scales + s * blocks * kBlockScales + step * kPairScales;
        if (!single) {
          words = *reinterpret_cast<const uint4*>(c);
          four = *reinterpret_cast<const uint32_t*>(b);
        } else {
          const uint2 low = *reinterpret_cast<const uint2*>(c - lane_ * 8);
          words = make_uint4(low.x, low.y, 0, 0);
          four = *reinterpret_cast<const uint16_t*>(b - lane_ / 4 * 2);
        }
      }
      decode_pair<true>(words, four, a[s]);
    }
    multiply(a, x);
  }

  // Adds 64 of k.
  __device__ __forceinline__ void multiply(const uint32_t (&a)[kStrips][16], uint32_t x) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint4 b[kTiles];  // 32 of k, 8 rows each
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
        b[t] = load_matrices((half == 0 ? x : x ^ 64u) + t * 8 * kRowBytes);
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
#pragma unroll
        for (int s = 0; s < kStrips; ++s) {
          const uint32_t* w = a[s] + 8 * half;
          mma_m16n8k16(sums_[s][t], w[0], w[1], w[2], w[3], b[t].x, b[t].y);
        }
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
#pragma unroll
        for (int s = 0; s < kStrips; ++s) {
          const uint32_t* w = a[s] + 8 * half + 4;
          mma_m16n8k16(sums_[s][t], w[0], w[1], w[2], w[3], b[t].z, b[t].w);
        }
    }
  }

  const Shared<Shape>& shared_;
  Barriers& barriers_;
  const Tile<Shape>& tile_;
  const GroupedProduct& product_;
  MathPlaces& places_;
  int warp_, lane_;
  int first_strip_, strips_;
  uint32_t x_low_;
  float bias_[kStrips][2];  // of rows g and g + 8
  float sums_[kStrips][kTiles][4];
};

template <class Shape>
__device__ __forceinline__ void run_few_rows(const Shared<Shape>& shared, int warp, int lane) {
  Barriers& barriers = shared.barriers();
  MathPlaces places;
  Place tile_at;
  for (;;) {
    mbarrier_wait(&barriers.tile_full[tile_at.slot], tile_at.parity);
    const Tile<Shape>& tile = shared.tile(tile_at.slot);
    if (tile.product < 0) return;
#define MOXIE_TILES(T)                                              \
  case T:                                                           \
    StripProduct<Shape, T>(shared, tile, places, warp, lane).run(); \
    break;
    switch (padded_rows<Shape>(tile.rows) / 8) {
      MOXIE_TILES(1)
      MOXIE_TILES(2)
      MOXIE_TILES(3)
      MOXIE_TILES(4)
    }
#undef MOXIE_TILES
    __syncwarp();  // all lanes have stored: the scheduler says so to the second product
    if (lane == 0) mbarrier_arrive(&barriers.tile_empty[tile_at.slot]);
    tile_at.advance(1, kTileSlots);
  }
}

}  // namespace moxie::hopper::grouped
