// The math warpgroups of grouped_gemm.cu for many rows: from codes and rows in shared memory to
// stored outputs.
#pragma once

#include <cuda_bf16.h>

#include "hopper/device/decode.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/grouped_gemm_shared.cuh"

namespace moxie::hopper::grouped {

template <class Shape, int N>
class TileProduct {
 public:
  static_assert(!kWholePanels<Shape>);

  __device__ __forceinline__ TileProduct(const Shared<Shape>& shared, const Tile<Shape>& tile,
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
    first_feature_ = (tile_.feature_tile * Shape::kGroups + group_) * mxfp4::kTileRows;
    has_strip_ = first_feature_ + warp_ * mxfp4::kStripRows < product_.n;
    all_strips_ = first_feature_ + mxfp4::kTileRows <= product_.n;
    bias_[0] = bias_[1] = 0;
    if (product_.bias != nullptr && has_strip_) {  // asked for long before it is needed
      const float* bias = product_.bias + static_cast<int64_t>(tile_.expert) * product_.n +
                          first_feature_ + warp_ * mxfp4::kStripRows + lane_ / 4;
      bias_[0] = __ldg(bias), bias_[1] = __ldg(bias + 8);
    }
#pragma unroll
    for (int i = 0; i < N / 2; ++i) sums_[i] = 0;
    const int all_blocks = product_.k / mxfp4::kBlock;
    for (int first = 0; first < all_blocks; first += mxfp4::kPanelBlocks) {
      add_panel(min(mxfp4::kPanelBlocks, all_blocks - first));
      if (++places_.scale_slot == Shape::kScaleSlots) places_.scale_slot = 0;
    }
    store();
  }

 private:
  __device__ __forceinline__ void add_panel(int panel_blocks) {
    const int steps = (panel_blocks + 1) / 2;
    const bool odd = panel_blocks % 2 != 0;
    constexpr int kStripBytes = Shape::kSlotSteps * kPairCodes;
    bool ordinary = false;
    for (int step = 0; step < steps;) {
      mbarrier_wait(&barriers_.codes_full[group_][places_.codes.slot], places_.codes.parity);
      // The same in all warps of the group: they must execute the same wgmmas.
      if (step == 0)
        ordinary = all_strips_ &&
                   !any_large_scale<kScaleBytes / 16>(shared_.scales(group_, places_.scale_slot),
                                                      panel_blocks * kTileStrips, lane_);
      const unsigned char* codes =
          shared_.codes(group_, places_.codes.slot) + warp_ * kStripBytes + lane_ * 16;
      const unsigned char* scales = shared_.scales(group_, places_.scale_slot) +
                                    warp_ * panel_blocks * kBlockScales + step * kPairScales +
                                    lane_ / 4 * 4;
      const int slot_end = min(step + Shape::kSlotSteps, steps);
      if (ordinary && slot_end - step == Shape::kSlotSteps && !(odd && slot_end == steps)) {
        add_ordinary_slot(codes, scales);
        step = slot_end;
      } else {
#pragma unroll 1
        while (step < slot_end) {
          const int count = min(Shape::kStageSteps, slot_end - step);
          const bool last = step + count == slot_end;
          add_stage(codes, scales, count, odd && step + count == steps, last);
          codes += Shape::kStageSteps * kPairCodes;
          scales += Shape::kStageSteps * kPairScales;
          step += count;
        }
      }
      places_.codes.advance(1, shared_.kernel.code_slots);
    }
  }

  // A slot of whole pairs without large scales: while the wgmmas of some steps run, the next are
  // decoded.
  __device__ __forceinline__ void add_ordinary_slot(const unsigned char* codes,
                                                    const unsigned char* scale_bytes) {
    constexpr int kSteps = Shape::kSlotSteps;
    uint32_t a[2][16];
    uint4 words;
    uint32_t scales;
    const auto read = [&](int step) {
      words = *reinterpret_cast<const uint4*>(codes + step * kPairCodes);
      scales = *reinterpret_cast<const uint32_t*>(scale_bytes + step * kPairScales);
    };
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      auto& operand = a[step % 2];
      read(step);  // not before the products of the last: ptxas would keep wgmmas apart (C7512)
      decode_pair_by(words, scales, shared_.kernel.multipliers.by128, operand);
      if (step + 1 == kSteps) {
        __syncwarp();  // all lanes have read the slot before a copy overwrites it
        if (lane_ == 0) mbarrier_arrive(&barriers_.codes_empty[group_][places_.codes.slot]);
      }
      if (step > 0) {
        wgmma_wait<0>();
        if (step % Shape::kStageSteps == 0) end_stage();
      }
      if (step % Shape::kStageSteps == 0) wait_for_stage();
      wgmma_fence();
      const uint64_t x =
          swizzled_operand(shared_address(shared_.x(places_.x.slot, step % Shape::kStageSteps)));
#pragma unroll
      for (int j = 0; j < 4; ++j) wgmma_m64k16<N>(sums_, operand + 4 * j, x + 2 * j);
      wgmma_commit();
    }
    wgmma_wait<0>();
    end_stage();
  }

  __device__ __forceinline__ void wait_for_stage() const {
    mbarrier_wait(&barriers_.x_full[places_.x.slot], places_.x.parity);
    fence_shared_for_wgmma();
  }

  __device__ __forceinline__ void end_stage() {
    if (lane_ == 0) mbarrier_arrive(&barriers_.x_empty[places_.x.slot]);
    places_.x.advance(1, shared_.kernel.x_stages);
  }

  // One stage of rows: `count` steps of weights, zeros after; `half`: the last is a block without
  // partner; `last` of the slot.
  __device__ __forceinline__ void add_stage(const unsigned char* codes,
                                            const unsigned char* scale_bytes, int count, bool half,
                                            bool last) {
    constexpr int kSteps = Shape::kStageSteps;
    uint4 words[kSteps];
    uint32_t scales[kSteps];
    uint32_t all_scales = 0;
    // Bits of steps: those with two blocks, the one with one.
    const uint32_t present = has_strip_ ? (1u << count) - 1 : 0;
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
    wait_for_stage();
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const uint64_t x = swizzled_operand(shared_address(shared_.x(places_.x.slot, i)));
#pragma unroll
      for (int j = 0; j < 4; ++j) wgmma_m64k16<N>(sums_, a[i] + 4 * j, x + 2 * j);
    }
    wgmma_commit();
    wgmma_wait<0>();
    end_stage();
  }

  // Rounds and stores: 32 rows at a time through shared memory, so that whole
  // rows of 128 bytes (swiglu: 64) go out.
  __device__ __forceinline__ void store() {
    if (first_feature_ >= product_.n) return;
    if (product_.swiglu) {
      store_as<true>();
    } else {
      store_as<false>();
    }
    // All rows are copied: for the next call's first slots.
    named_barrier(1 + group_, kGroupThreads);
  }

  template <bool kSwiglu>
  __device__ __forceinline__ void store_as() {
    constexpr int kPieces = kSwiglu ? 4 : 8;  // of 16 bytes, of a row
    constexpr int kCopies = kStagedRows * kPieces / kGroupThreads;
    constexpr int kRowsBetween = kGroupThreads / kPieces;
    // This thread's piece, of rows `row`, `row` + kRowsBetween ... of those staged.
    const int thread = warp_ * 32 + lane_, row = thread / kPieces, piece = thread % kPieces;
    const int feature = first_feature_ / (kSwiglu ? 2 : 1) + piece * 8;
    // Rows before this one are stored by this thread.
    const int rows = feature < product_.n / (kSwiglu ? 2 : 1) ? tile_.rows : 0;
    bf16* out = static_cast<bf16*>(product_.out) + feature;
#pragma unroll
    for (int first_row = 0; first_row < N; first_row += kStagedRows) {
      unsigned char* staged = shared_.staged(group_, first_row / kStagedRows % kStagedSlots<Shape>);
      stage<kSwiglu>(shared_address(staged), first_row);
      int64_t to[kCopies];  // past the tile's rows: of no use, not used
#pragma unroll
      for (int i = 0; i < kCopies; ++i) to[i] = tile_.out_row[first_row + row + i * kRowsBetween];
      // The group's rows are staged. Those of the slot before are copied when all come here again,
      // so that slot may be staged anew afterwards.
      named_barrier(1 + group_, kGroupThreads);
      uint4 v[kCopies];
#pragma unroll
      for (int i = 0; i < kCopies; ++i)
        v[i] = *reinterpret_cast<const uint4*>(staged + (row + i * kRowsBetween) * kStagedPitch +
                                               piece * 16);
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        if (first_row + row + i * kRowsBetween >= rows) continue;
        if (kSwiglu) {
          // Written in the order 0 4 1 5 2 6 3 7.
          v[i] =
              make_uint4(__byte_perm(v[i].x, v[i].y, 0x5410), __byte_perm(v[i].z, v[i].w, 0x5410),
                         __byte_perm(v[i].x, v[i].y, 0x7632), __byte_perm(v[i].z, v[i].w, 0x7632));
        } else if (product_.residual != nullptr) {
          const uint4 r = *reinterpret_cast<const uint4*>(
              product_.residual + to[i] * product_.residual_stride + feature);
          v[i] = make_uint4(add_pairs(v[i].x, r.x), add_pairs(v[i].y, r.y), add_pairs(v[i].z, r.z),
                            add_pairs(v[i].w, r.w));
        }
        *reinterpret_cast<uint4*>(out + to[i] * product_.out_stride) = v[i];
      }
    }
  }

  // 32 rows from `first_row` on, rounded, features side by side.
  template <bool kSwiglu>
  __device__ __forceinline__ void stage(uint32_t staged, int first_row) const {
    const GroupedGemmArgs& args = shared_.kernel.args;
    const int t = lane_ % 4, piece = lane_ / 8, row = lane_ % 8;
    // Gate and linear part are 4 lanes apart: even g takes the pair of rows below 8, odd g that of
    // rows from 8 on.
    const bool even = lane_ / 4 % 2 == 0;
    uint32_t low[4], high[4];  // of 8 rows each
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      constexpr int kLast = N / 8 - 1;
      const int eight = first_row / 8 + i < kLast ? first_row / 8 + i : kLast;
      float v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) v[j] = sums_[4 * eight + j] + bias_[j / 2];
      if (kSwiglu) {
        float y[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float other = __shfl_xor_sync(0xffffffffu, even ? v[2 + j] : v[j], 4);
          y[j] = swiglu(even ? v[j] : other, even ? other : v[2 + j], args.alpha, args.limit);
        }
        low[i] = pack(y[0], y[1]);
      } else {
        const float2 weight = *reinterpret_cast<const float2*>(tile_.weight + 8 * eight + 2 * t);
        low[i] = pack(v[0] * weight.x, v[1] * weight.y);
        high[i] = pack(v[2] * weight.x, v[3] * weight.y);
      }
    }
    if (kSwiglu) {
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
  }

  const Shared<Shape>& shared_;
  Barriers& barriers_;
  const Tile<Shape>& tile_;
  const GroupedProduct& product_;
  MathPlaces& places_;
  int group_, warp_, lane_;
  int first_feature_;
  bool has_strip_, all_strips_;
  float bias_[2];  // of rows g and g + 8 of the warp's strip
  float sums_[N / 2];
};

// Product<Shape, N> is TileProduct or one like it.
template <class Shape, template <class, int> class Product>
__device__ __forceinline__ void run_math(const Shared<Shape>& shared, int group, int warp,
                                         int lane) {
  Barriers& barriers = shared.barriers();
  Place tile_at;
  MathPlaces places;
  for (;;) {
    mbarrier_wait(&barriers.tile_full[tile_at.slot], tile_at.parity);
    const Tile<Shape>& tile = shared.tile(tile_at.slot);
    if (tile.product < 0) return;
#define MOXIE_ROWS(N)                                                 \
  case N:                                                             \
    Product<Shape, N>(shared, tile, places, group, warp, lane).run(); \
    break;
    if constexpr (kChains<Shape> == 2) {
      switch (padded_rows<Shape>(tile.rows) / 2) {
        MOXIE_ROWS(32)
        MOXIE_ROWS(64)
        MOXIE_ROWS(96)
        MOXIE_ROWS(128)
        MOXIE_ROWS(160)
      }
    } else if constexpr (kCloseRows<Shape>) {
      const int rows = padded_rows<Shape>(tile.rows);
      switch (rows) {
        MOXIE_ROWS(8)
        MOXIE_ROWS(16)
        MOXIE_ROWS(24)
        MOXIE_ROWS(32)
      }
      if constexpr (Shape::kRows > 32) switch (rows) {
          MOXIE_ROWS(40)
          MOXIE_ROWS(48)
        }
      if constexpr (Shape::kRows > 48) switch (rows) {
          MOXIE_ROWS(56)
          MOXIE_ROWS(64)
          MOXIE_ROWS(80)
          MOXIE_ROWS(96)
        }
    } else if constexpr (Shape::kRows > 64) {
      const int rows = padded_rows<Shape>(tile.rows);
      switch (rows) {
        MOXIE_ROWS(16)
        MOXIE_ROWS(32)
        MOXIE_ROWS(64)
        MOXIE_ROWS(96)
        MOXIE_ROWS(128)
        MOXIE_ROWS(160)
        MOXIE_ROWS(192)
      }
      if constexpr (Shape::kStepBytes == kRowBytes) switch (rows) {
          MOXIE_ROWS(48)
          MOXIE_ROWS(80)
          MOXIE_ROWS(112)
          MOXIE_ROWS(144)
          MOXIE_ROWS(176)
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
    __syncwarp();  // all lanes have stored: the scheduler says so to the second product
    if (lane == 0) mbarrier_arrive(&barriers.tile_empty[tile_at.slot]);
    tile_at.advance(1, kTileSlots);
  }
}

}  // namespace moxie::hopper::grouped
