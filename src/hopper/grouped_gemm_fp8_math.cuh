// The math warpgroups of grouped_gemm_fp8.cu: from codes and e4m3 rows in shared memory to stored
// outputs.
//
// Every row of weights has a base scale: its window, within which e5m2 holds its weights exactly.
// It is chosen at a tile's first panel, in the middle of the panel's scales, and kept while the
// panels' scales stay in the window. Where they do not, sums are multiplied by the power of two
// between the old base and a new one. Where a panel's scales fit in no window, the tile goes on in
// bf16, with mma.sync: slower, as exact.
#pragma once

#include "hopper/device/decode.cuh"
#include "hopper/device/decode_fp8.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/device/wgmma_fp8.cuh"
#include "hopper/grouped_gemm_math.cuh"
#include "hopper/grouped_gemm_shared.cuh"

namespace moxie::hopper::grouped {

// Two e4m3, `low` in the low byte; beyond 448 they are 448.
__device__ __forceinline__ uint32_t pack_e4m3(float low, float high) {
  uint16_t both;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(high), "f"(low));
  return both;
}
// Bytes i of `even` and of `odd`, e4m3, as a pair of bf16.
template <int i>
__device__ __forceinline__ uint32_t bf16_of_e4m3(uint32_t even, uint32_t odd) {
  uint32_t halves;
  const auto both = static_cast<uint16_t>(select_bytes(even, odd, i | (4 + i) << 4));
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(both));
  float low, high;
  asm("{.reg .b16 l, h;\nmov.b32 {l, h}, %2;\ncvt.f32.f16 %0, l;\ncvt.f32.f16 %1, h;}"
      : "=f"(low), "=f"(high)
      : "r"(halves));
  return pack(low, high);
}
// Whether any thread of a barrier's says so.
__device__ __forceinline__ bool any_of(int barrier, int threads, bool mine) {
  uint32_t any;
  asm volatile(
      "{\n.reg .pred mine, any;\nsetp.ne.u32 mine, %3, 0;\n"
      "barrier.cta.red.or.aligned.pred any, %1, %2, mine;\nselp.u32 %0, 1, 0, any;\n}"
      : "=r"(any)
      : "r"(barrier), "r"(threads), "r"(static_cast<uint32_t>(mine))
      : "memory");
  return any != 0;
}

template <class Shape, int N>
class Fp8TileProduct {
 public:
  static constexpr int kSteps = Shape::kStageSteps;
  static constexpr int kC = kChains<Shape>;  // rows c * N .. are in chain c
  static_assert(Shape::kSlotSteps % kSteps == 0);

  __device__ __forceinline__ Fp8TileProduct(const Shared<Shape>& shared, const Tile<Shape>& tile,
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
    const bool all_strips = first_feature_ + mxfp4::kTileRows <= product_.n;
    bias_[0] = bias_[1] = 0;
    if (product_.bias != nullptr && has_strip_) {  // asked for long before it is needed
      const float* bias = product_.bias + static_cast<int64_t>(tile_.expert) * product_.n +
                          first_feature_ + warp_ * mxfp4::kStripRows + lane_ / 4;
      bias_[0] = __ldg(bias), bias_[1] = __ldg(bias + 8);
    }
#pragma unroll
    for (int c = 0; c < kC; ++c)
#pragma unroll
      for (int i = 0; i < N / 2; ++i) sums_[c][i] = 0;
    wide_ = false;
    const int all_blocks = product_.k / mxfp4::kBlock;
    for (int first = 0; first < all_blocks; first += mxfp4::kPanelBlocks) {
      add_panel(min(mxfp4::kPanelBlocks, all_blocks - first), first == 0, all_strips);
      if (++places_.scale_slot == Shape::kScaleSlots) places_.scale_slot = 0;
    }
    store();
  }

 private:
  __device__ __forceinline__ void add_panel(int panel_blocks, bool first_panel, bool all_strips) {
    const int steps = (panel_blocks + 1) / 2;
    const bool odd = panel_blocks % 2 != 0;
    // A slot of whole panels holds its strips one after another, others at their full distance.
    const int strip_bytes =
        kWholePanels<Shape> ? panel_blocks * kBlockCodes : Shape::kSlotSteps * kPairCodes;
    for (int step = 0; step < steps;) {
      mbarrier_wait(&barriers_.codes_full[group_][places_.codes.slot], places_.codes.parity);
      const unsigned char* codes =
          shared_.codes(group_, places_.codes.slot) + warp_ * strip_bytes + lane_ * 16;
      const unsigned char* scales =
          shared_.scales(group_, kWholePanels<Shape> ? places_.codes.slot : places_.scale_slot) +
          warp_ * panel_blocks * kBlockScales + lane_ / 4 * 4;
      if (step == 0 && !wide_) find_window(scales, panel_blocks, first_panel);
      scales += step * kPairScales;
      const int slot_end = min(step + Shape::kSlotSteps, steps);
      const bool ordinary = all_strips && !wide_ && slot_end - step == Shape::kSlotSteps &&
                            !(odd && slot_end == steps);
#pragma unroll 1
      while (step < slot_end) {
        const int count = min(kSteps, slot_end - step);
        const bool last = step + count == slot_end;
        if (ordinary)
          add_ordinary_stage(codes, scales, last);
        else
          add_stage(codes, scales, count, odd && step + count == steps, last);
        codes += kSteps * kPairCodes;
        scales += kSteps * kPairScales;
        step += count;
      }
      places_.codes.advance(1, shared_.kernel.code_slots);
    }
  }

  // The scales of rows g and g + 8, in turn, of pair `pair` of the panel; `scales` is this lane's.
  // A block without partner stands twice.
  __device__ __forceinline__ uint32_t scales_of(const unsigned char* scales, int pair,
                                                int panel_blocks) const {
    if (2 * pair + 1 < panel_blocks)
      return *reinterpret_cast<const uint32_t*>(scales + pair * kPairScales);
    return *reinterpret_cast<const uint16_t*>(scales + pair * kPairScales - lane_ / 4 * 2) *
           0x00010001u;
  }

  // Sees to it that the panel's scales lie in their rows' windows, or else goes on in bf16. The
  // four lanes of a row look at different pairs.
  __device__ __forceinline__ void find_window(const unsigned char* scales, int panel_blocks,
                                              bool first_panel) {
    constexpr uint32_t kBeyond = (128 - kWindowScales) * 0x01010101u;
    const int t = lane_ % 4, pairs = (panel_blocks + 1) / 2;
    if (!first_panel) {
      uint32_t outside = 0;  // bits 7: below the window, or far above; above
      if (has_strip_)
        for (int pair = t; pair < pairs; pair += 4) {
          const uint32_t place = scales_of(scales, pair, panel_blocks) - bases_;
          outside |= place | (place + kBeyond);
        }
      if (!any_of(1 + group_, kGroupThreads, (outside & 0x80808080u) != 0)) return;
    }
    uint32_t low[2] = {0x00ff00ffu, 0x00ff00ffu}, high[2] = {0, 0};  // of rows g, g + 8
    if (has_strip_)
      for (int pair = t; pair < pairs; pair += 4) {
        const uint32_t s = scales_of(scales, pair, panel_blocks);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const uint32_t of_row = (s >> 8 * r) & 0x00ff00ffu;
          low[r] = __vminu2(low[r], of_row), high[r] = __vmaxu2(high[r], of_row);
        }
      }
    bool fits = true;
    int bases[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int d = 1; d < 4; d *= 2) {
        low[r] = __vminu2(low[r], __shfl_xor_sync(0xffffffffu, low[r], d));
        high[r] = __vmaxu2(high[r], __shfl_xor_sync(0xffffffffu, high[r], d));
      }
      const int least = static_cast<int>(min(low[r] & 0xffffu, low[r] >> 16));
      const int most = static_cast<int>(max(high[r] & 0xffffu, high[r] >> 16));
      const int old = static_cast<int>(bases_ >> 8 * r & 255u);
      bases[r] = old;
      if (first_panel || least < old || most >= old + kWindowScales) {
        const int around = (kWindowScales - 1 - (most - least)) / 2;
        bases[r] = min(max(least - around, 0), kLargestBase);
        // Sums and products must stay normal float32 numbers in units of either base.
        fits = fits && most - least < kWindowScales && most < kLargestBase + kWindowScales &&
               (first_panel || abs(bases[r] - old) <= 60);
      }
    }
    fits = fits || !has_strip_;
    if (!has_strip_) bases[0] = bases[1] = 0;
    wide_ = any_of(1 + group_, kGroupThreads, !fits);
    if (wide_) bases[0] = bases[1] = kWindowBias;  // sums are weights times rows as they are
    if (!first_panel) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float factor = power_of_two(static_cast<int>(bases_ >> 8 * r & 255u) - bases[r]);
#pragma unroll
        for (int c = 0; c < kC; ++c)
#pragma unroll
          for (int i = 0; i < N / 8; ++i)
            sums_[c][4 * i + 2 * r] *= factor, sums_[c][4 * i + 2 * r + 1] *= factor;
      }
    }
    bases_ = static_cast<uint32_t>(bases[0] | bases[1] << 8) * 0x00010001u;
    if (wide_ && warp_ == 0 && lane_ == 0 && shared_.kernel.args.num_wide_tiles != nullptr)
      atomicAdd(reinterpret_cast<unsigned long long*>(shared_.kernel.args.num_wide_tiles), 1ull);
  }
  static constexpr int kLargestBase = 226;  // scales 253 and up are bf16's to clamp
  __device__ __forceinline__ static float power_of_two(int exponent) {  // -126 .. 127
    return __int_as_float((exponent + 127) << 23);
  }

  __device__ __forceinline__ uint32_t offsets_of(uint32_t scales) const {
    return (scales - bases_) * 4u + 0x04040404u;
  }

  // Three steps of whole pairs in their windows: while the wgmmas of some run, the next are
  // decoded.
  __device__ __forceinline__ void add_ordinary_stage(const unsigned char* codes,
                                                     const unsigned char* scale_bytes, bool last) {
    uint32_t a[2][8];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const uint4 words = *reinterpret_cast<const uint4*>(codes + i * kPairCodes);
      const uint32_t scales = *reinterpret_cast<const uint32_t*>(scale_bytes + i * kPairScales);
      if (last && i == kSteps - 1) free_codes();
      if (i >= 2) wgmma_wait<1>();  // the products that used these registers are done
      decode_pair_fp8(words, offsets_of(scales), shared_.kernel.multipliers, a[i % 2]);
      if (i == 0) wait_for_stage();
      multiply(a[i % 2], i);
    }
    wgmma_wait<0>();
    end_stage();
  }

  __device__ __forceinline__ void multiply(const uint32_t (&a)[8], int step) {
    wgmma_fence();
    const uint64_t x = swizzled_operand_64(shared_address(shared_.x(places_.x.slot, step)));
#pragma unroll
    for (int c = 0; c < kC; ++c) {
      constexpr int kChainRows = N * Shape::kStepBytes / 16;
      wgmma_m64k32<N>(sums_[c], a, x + c * kChainRows);
      wgmma_m64k32<N>(sums_[c], a + 4, x + c * kChainRows + 2);
    }
    wgmma_commit();
  }

  __device__ __forceinline__ void wait_for_stage() const {
    mbarrier_wait(&barriers_.x_full[places_.x.slot], places_.x.parity);
    fence_shared_for_wgmma();
  }
  __device__ __forceinline__ void end_stage() {
    if (lane_ == 0) mbarrier_arrive(&barriers_.x_empty[places_.x.slot]);
    places_.x.advance(1, shared_.kernel.x_stages);
  }
  // All lanes have read the slot before a copy overwrites it.
  __device__ __forceinline__ void free_codes() const {
    __syncwarp();
    if (lane_ == 0) mbarrier_arrive(&barriers_.codes_empty[group_][places_.codes.slot]);
  }

  // One stage of rows: `count` steps of weights, zeros after; `half`: the last is a block without
  // partner; `last` of the slot.
  __device__ __forceinline__ void add_stage(const unsigned char* codes,
                                            const unsigned char* scale_bytes, int count, bool half,
                                            bool last) {
    wait_for_stage();
#pragma unroll 1
    for (int i = 0; i < kSteps; ++i) {
      uint4 words = make_uint4(0, 0, 0, 0);
      uint32_t scales = 0;
      if (has_strip_ && i < count) {
        if (half && i == count - 1) {
          const uint2 low = *reinterpret_cast<const uint2*>(codes + i * kPairCodes - lane_ * 8);
          words.x = low.x, words.y = low.y;
          scales =
              *reinterpret_cast<const uint16_t*>(scale_bytes + i * kPairScales - lane_ / 4 * 2);
        } else {
          words = *reinterpret_cast<const uint4*>(codes + i * kPairCodes);
          scales = *reinterpret_cast<const uint32_t*>(scale_bytes + i * kPairScales);
        }
      }
      if (wide_) {
        multiply_in_bf16(words, scales, i);
      } else {
        uint32_t a[8];
        decode_pair_fp8(words, offsets_of(scales), shared_.kernel.multipliers, a);
        multiply(a, i);
        wgmma_wait<0>();
      }
    }
    if (last) free_codes();
    __syncwarp();  // all lanes have read the stage before it is freed
    end_stage();
  }

  // A step with any scales: the sums' places are the same for mma.sync.
  __device__ __forceinline__ void multiply_in_bf16(const uint4& words, uint32_t scales, int step) {
    uint32_t a[16];
    decode_pair<true>(words, scales, a);
    const int g = lane_ / 4, t = lane_ % 4;
    const unsigned char* x = shared_.x(places_.x.slot, step) + g * Shape::kStepBytes + 4 * t;
#pragma unroll
    for (int j = 0; j < kC * N / 8; ++j) {
      float(&all)[N / 2] = sums_[j / (N / 8)];
      const int first = 4 * (j % (N / 8));
      float sums[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i] = all[first + i];
#pragma unroll
      for (int block = 0; block < 2; ++block) {
        const int place = 2 * block ^ (g / 2 % 4);  // of the block's even elements
        const unsigned char* row = x + j * 8 * Shape::kStepBytes;
        const uint32_t even = *reinterpret_cast<const uint32_t*>(row + place * 16);
        const uint32_t odd = *reinterpret_cast<const uint32_t*>(row + (place ^ 1) * 16);
        const uint32_t* of_block = a + 8 * block;
        mma_m16n8k16(sums, of_block[0], of_block[1], of_block[2], of_block[3],
                     bf16_of_e4m3<0>(even, odd), bf16_of_e4m3<1>(even, odd));
        mma_m16n8k16(sums, of_block[4], of_block[5], of_block[6], of_block[7],
                     bf16_of_e4m3<2>(even, odd), bf16_of_e4m3<3>(even, odd));
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) all[first + i] = sums[i];
    }
  }

  // Rounds and stores the 64 features: 32 rows at a time through shared memory, so that whole rows
  // of 128 bytes (swiglu: 32, of e4m3) go out.
  __device__ __forceinline__ void store() {
    if (first_feature_ >= product_.n) return;
    const bool swiglu_pairs = product_.swiglu;
    const float factors[2] = {
        power_of_two(static_cast<int>(bases_ & 255u) - kWindowBias) * product_.x_factor,
        power_of_two(static_cast<int>(bases_ >> 8 & 255u) - kWindowBias) * product_.x_factor};
    // This thread's piece of rows `row` (plain: and row + 16) of those staged: 8 of 32 bytes, or 16
    // of 128.
    const int thread = warp_ * 32 + lane_;
    const int row = swiglu_pairs ? thread / 4 : thread / 8;
    const int piece = swiglu_pairs ? thread % 4 : thread % 8;
    const int stride = static_cast<int>(product_.out_stride) * (swiglu_pairs ? 1 : 2);  // bytes
    unsigned char* out =
        static_cast<unsigned char*>(product_.out) +
        (swiglu_pairs ? first_feature_ / 2 + piece * 8 : first_feature_ * 2 + piece * 16);
    // Rows before this one are stored by this thread.
    const int rows = swiglu_pairs || first_feature_ + piece * 8 < product_.n ? tile_.rows : 0;
#pragma unroll
    for (int first_row = 0; first_row < kC * N; first_row += kStagedRows) {
      unsigned char* staged = shared_.staged(group_, first_row / kStagedRows % kStagedSlots<Shape>);
      const int* out_row = tile_.out_row + first_row + row;
      // The group's rows are staged before the barrier. Those of the slot before are copied when
      // all come here again, so that slot may be staged anew afterwards.
      if (swiglu_pairs) {
        stage_activated(staged, first_row, factors);
        const int to = out_row[0];
        named_barrier(1 + group_, kGroupThreads);
        if (first_row + row < rows)
          *reinterpret_cast<uint2*>(out + static_cast<int64_t>(to) * stride) =
              *reinterpret_cast<const uint2*>(staged + row * kActivatedPitch + piece * 8);
      } else {
        stage(staged, first_row, factors);
        const int to[2] = {out_row[0], out_row[16]};  // past the tile's rows: of no use, not used
        named_barrier(1 + group_, kGroupThreads);
        uint4 v[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
          v[i] =
              *reinterpret_cast<const uint4*>(staged + (row + 16 * i) * kStagedPitch + piece * 16);
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if (first_row + row + 16 * i < rows)
            *reinterpret_cast<uint4*>(out + static_cast<int64_t>(to[i]) * stride) = v[i];
      }
    }
    // All rows are copied: for the next call's first slots.
    named_barrier(1 + group_, kGroupThreads);
  }

  __device__ __forceinline__ static constexpr int eight_of(int first_row, int i) {
    constexpr int kLast = kC * N / 8 - 1;
    return first_row / 8 + i < kLast ? first_row / 8 + i : kLast;
  }

  // SwiGLU's outputs as e4m3, in the order in which the second product reads them: element e of the
  // warp's eight at fp8_position(8 * warp + e).
  static constexpr int kActivatedPitch = 48;
  __device__ __forceinline__ void stage_activated(unsigned char* staged, int first_row,
                                                  const float (&factors)[2]) const {
    const GroupedGemmArgs& args = shared_.kernel.args;
    const int g = lane_ / 4, t = lane_ % 4;
    // Gate and linear part are 4 lanes apart: even g takes the pair of rows below 8, odd g that of
    // rows from 8 on.
    const bool even = g % 2 == 0;
    unsigned char* to =
        staged + 2 * t * kActivatedPitch + fp8_position(8 * warp_ + (even ? g / 2 : 4 + g / 2));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int eight = eight_of(first_row, i);
      const float2 pair = *reinterpret_cast<const float2*>(tile_.weight + 8 * eight + 2 * t);
      const float of_rows[2] = {pair.x, pair.y};
      float v[4], y[2];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        v[j] = fmaf(sums_[eight / (N / 8)][4 * (eight % (N / 8)) + j] * factors[j / 2],
                    of_rows[j % 2], bias_[j / 2]);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float other = __shfl_xor_sync(0xffffffffu, even ? v[2 + j] : v[j], 4);
        y[j] = swiglu(even ? v[j] : other, even ? other : v[2 + j], args.alpha, args.limit) *
               product_.out_factor;
      }
      const uint32_t both = pack_e4m3(y[0], y[1]);
      to[8 * i * kActivatedPitch] = static_cast<unsigned char>(both);
      to[(8 * i + 1) * kActivatedPitch] = static_cast<unsigned char>(both >> 8);
    }
  }
  __device__ __forceinline__ void stage(unsigned char* staged, int first_row,
                                        const float (&factors)[2]) const {
    const int t = lane_ % 4, piece = lane_ / 8, row = lane_ % 8;
    uint32_t low[4], high[4];  // of 8 rows each
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int eight = eight_of(first_row, i);
      const float2 pair = *reinterpret_cast<const float2*>(tile_.weight + 8 * eight + 2 * t);
      const float weight[2] = {pair.x, pair.y};
      float v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        v[j] =
            fmaf(sums_[eight / (N / 8)][4 * (eight % (N / 8)) + j], factors[j / 2], bias_[j / 2]) *
            weight[j % 2];
      low[i] = pack(v[0], v[1]), high[i] = pack(v[2], v[3]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
      store_transposed(shared_address(staged) +
                           static_cast<uint32_t>((16 * half + piece / 2 * 8 + row) * kStagedPitch +
                                                 warp_ * 32 + piece % 2 * 16),
                       low[2 * half], high[2 * half], low[2 * half + 1], high[2 * half + 1]);
  }

  const Shared<Shape>& shared_;
  Barriers& barriers_;
  const Tile<Shape>& tile_;
  const GroupedProduct& product_;
  MathPlaces& places_;
  int group_, warp_, lane_, first_feature_;
  bool has_strip_, wide_;
  uint32_t bases_ = 0;  // of rows g, g + 8, g, g + 8 of the warp's strip
  float bias_[2];       // of rows g and g + 8
  float sums_[kC][N / 2];
};

}  // namespace moxie::hopper::grouped
