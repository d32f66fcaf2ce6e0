// The math warpgroups of grouped_gemm.cu for some rows of an expert: a barrier for nine steps of
// weights, one for nine steps of rows, and nothing else between them that waits.
#pragma once

#include "hopper/device/decode.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/grouped_gemm_shared.cuh"
#include "hopper/grouped_gemm_store.cuh"

namespace moxie::hopper::grouped {

// 64 features by N rows. The order of sums is that of TileProduct.
template <class Shape, int N>
class PanelProduct {
 public:
  static_assert(kWholePanels<Shape> && kPanelSteps % Shape::kStageSteps == 0);

  __device__ __forceinline__ PanelProduct(const Shared<Shape>& shared, const Tile<Shape>& tile,
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
    const int first_feature = (tile_.feature_tile * Shape::kGroups + group_) * mxfp4::kTileRows;
    const int strip = first_feature / mxfp4::kStripRows + warp_;
    has_strip_ = strip < product_.n / mxfp4::kStripRows;
    all_strips_ = first_feature + mxfp4::kTileRows <= product_.n;
    float bias[2] = {0, 0};
    if (product_.bias != nullptr && has_strip_) {  // asked for long before it is needed
      const float* from = product_.bias + static_cast<int64_t>(tile_.expert) * product_.n +
                          strip * mxfp4::kStripRows + lane_ / 4;
      bias[0] = __ldg(from), bias[1] = __ldg(from + 8);
    }
#pragma unroll
    for (int i = 0; i < N / 2; ++i) sums_[i] = 0;
    const int all_blocks = product_.k / mxfp4::kBlock;
    for (int first = 0; first < all_blocks; first += mxfp4::kPanelBlocks)
      add_panel(min(mxfp4::kPanelBlocks, all_blocks - first));
    store_strip<N / 8>(shared_.kernel.args, product_, tile_, strip, has_strip_, bias, lane_, sums_);
  }

 private:
  static constexpr uint32_t kStep = N * kRowBytes / 16;  // of rows, in a descriptor's units

  __device__ __forceinline__ void add_panel(int blocks) {
    const int slot = places_.codes.slot;
    mbarrier_wait(&barriers_.codes_full[group_][slot], places_.codes.parity);
    const unsigned char* codes =
        shared_.codes(group_, slot) + warp_ * blocks * kBlockCodes + lane_ * 16;
    const unsigned char* scales =
        shared_.scales(group_, slot) + warp_ * blocks * kBlockScales + lane_ / 4 * 4;
    // The same in all warps of the group: they must execute the same wgmmas.
    if (blocks == mxfp4::kPanelBlocks && all_strips_ &&
        !any_large_scale<kScaleBytes / 16>(shared_.scales(group_, slot), kScaleBytes / 16, lane_))
      add_whole(codes, scales);
    else
      add_any(codes, scales, blocks);
    places_.codes.advance(1, shared_.kernel.code_slots);
  }

  // The next stage's rows as an operand.
  __device__ __forceinline__ uint64_t wait_for_rows() const {
    const uint32_t rows = shared_address(shared_.x(places_.x.slot, 0, N));
    mbarrier_wait(&barriers_.x_full[places_.x.slot], places_.x.parity);
    // The same for all threads of a warp, and known to the compiler as such: a fifth fewer
    // instructions.
    return swizzled_operand(__shfl_sync(0xffffffffu, rows, 0));
  }
  __device__ __forceinline__ void free_rows(int stage) const {
    if (lane_ == 0) mbarrier_arrive(&barriers_.x_empty[stage]);
  }
  __device__ __forceinline__ void free_codes() const {
    __syncwarp();  // all lanes have read what a copy may now overwrite
    if (lane_ == 0) mbarrier_arrive(&barriers_.codes_empty[group_][places_.codes.slot]);
  }

  // Nine steps: while a step's wgmmas run, the next is decoded.
  __device__ __forceinline__ void add_whole(const unsigned char* codes,
                                            const unsigned char* scales) {
    uint32_t a[2][16];
    uint4 words;
    uint32_t four;
    const auto read = [&](int step) {
      words = *reinterpret_cast<const uint4*>(codes + step * kPairCodes);
      four = *reinterpret_cast<const uint32_t*>(scales + step * kPairScales);
    };
    read(0);
    decode_pair_by(words, four, shared_.kernel.multipliers.by128, a[0]);
    read(1);
    uint64_t x = 0;
    int stage = 0, before = 0;
#pragma unroll
    for (int step = 0; step < kPanelSteps; ++step) {
      const int in_stage = step % Shape::kStageSteps;
      if (in_stage == 0) {
        before = stage, stage = places_.x.slot;
        x = wait_for_rows();
        places_.x.advance(1, shared_.kernel.x_stages);
      }
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < 4; ++j)
        wgmma_m64k16<N>(sums_, a[step % 2] + 4 * j, x + in_stage * kStep + 2 * j);
      wgmma_commit();
      if (step + 1 == kPanelSteps) break;
      wgmma_wait<1>();  // of the step before: its operands may be written
      if (in_stage == 0 && step > 0) free_rows(before);
      decode_pair_by(words, four, shared_.kernel.multipliers.by128, a[(step + 1) % 2]);
      if (step + 2 < kPanelSteps)
        read(step + 2);
      else
        free_codes();
    }
    wgmma_wait<0>();
    free_rows(stage);
  }

  // As many steps as there are, with any scales; strips that are not there are zeros, and so is the
  // second half of a block without partner.
  __device__ __forceinline__ void add_any(const unsigned char* codes, const unsigned char* scales,
                                          int blocks) {
    uint64_t x = 0;
    int in_stage = 0;
#pragma unroll 1
    for (int block = 0; block < blocks; block += 2) {
      uint4 words = make_uint4(0, 0, 0, 0);
      uint32_t four = 0;
      if (has_strip_ && block + 1 < blocks) {
        words = *reinterpret_cast<const uint4*>(codes);
        four = *reinterpret_cast<const uint32_t*>(scales);
      } else if (has_strip_) {
        const uint2 low = *reinterpret_cast<const uint2*>(codes - lane_ * 8);
        words = make_uint4(low.x, low.y, 0, 0);
        four = *reinterpret_cast<const uint16_t*>(scales - lane_ / 4 * 2);
      }
      codes += kPairCodes, scales += kPairScales;
      uint32_t a[16];
      decode_pair<true>(words, four, a);
      x = in_stage == 0 ? wait_for_rows() : x + kStep;
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < 4; ++j) wgmma_m64k16<N>(sums_, a + 4 * j, x + 2 * j);
      wgmma_commit();
      wgmma_wait<0>();
      if (++in_stage == Shape::kStageSteps || block + 2 >= blocks) {
        free_rows(places_.x.slot);
        places_.x.advance(1, shared_.kernel.x_stages);
        in_stage = 0;
      }
    }
    free_codes();
  }

  const Shared<Shape>& shared_;
  Barriers& barriers_;
  const Tile<Shape>& tile_;
  const GroupedProduct& product_;
  MathPlaces& places_;
  int group_, warp_, lane_;
  bool has_strip_, all_strips_;
  float sums_[N / 2];
};

}  // namespace moxie::hopper::grouped
