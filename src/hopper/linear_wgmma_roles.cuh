// What the warps of linear_wgmma.cu do: ask for rows, decode and multiply, hand over sums, store.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <cstdint>

#include "hopper/device/cluster.cuh"
#include "hopper/device/decode.cuh"
#include "hopper/device/pairs.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/linear_wgmma.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper::wgmma_linear {

constexpr int kStepDepth = mxfp4::kPairBlocks * mxfp4::kBlock;  // 64 of k: 4 wgmmas
constexpr int kPanelSteps = mxfp4::kPanelBlocks / mxfp4::kPairBlocks;
constexpr int kTileStrips = mxfp4::kTileRows / mxfp4::kStripRows;
constexpr int kBlockCodes = 256, kBlockScales = 16;  // bytes of a strip, one block deep
constexpr int kRowBytes = kStepDepth * 2;            // of a row of x in a step
constexpr int kUnitBytes = 512;   // sums of a strip and 8 rows, as wgmma leaves them: 16 a lane
constexpr int kStagedPitch = 48;  // 16 features of a row and 16 bytes more, so that banks differ
constexpr int kStagedBytes = 32 * kStagedPitch;  // of a warp
constexpr int kFirstTurn = 1;                    // named barriers, one a warpgroup
constexpr int kInitialised = 7;                  // another, of all threads
constexpr int kMaxStages = 8, kMaxDepthGroups = 2;
constexpr int kSharedLimit = 227 * 1024;

constexpr int ahead_steps(int tile_rows) {
  return tile_rows <= 16 ? 8 : tile_rows <= 64 ? 6 : tile_rows <= 128 ? 4 : 2;
}
// A part's steps are made a multiple of so many. Code for what is left after whole rounds would
// cost more than zeros with small tiles.
constexpr int pad_steps(int tile_rows) { return tile_rows < 128 ? ahead_steps(tile_rows) : 2; }
constexpr int stage_steps(int tile_rows) { return tile_rows <= 16 ? 4 : tile_rows <= 64 ? 2 : 1; }
constexpr int stage_bytes(int tile_rows) { return stage_steps(tile_rows) * tile_rows * kRowBytes; }

template <int kFeatures64, int kDepths, int kTileRows, bool kTwoCtas>
struct Shape {
  static constexpr int kFeatureGroups = kFeatures64, kDepthGroups = kDepths, kRows = kTileRows;
  static constexpr bool kShareRows = kTwoCtas;  // with the other CTA of the cluster
  static constexpr int kGroups = kFeatureGroups * kDepthGroups;
  static constexpr int kStrips = kFeatureGroups * kTileStrips;
  static constexpr int kMathThreads = kGroups * 128, kThreads = kMathThreads + 128;
  // Three warpgroups begin with 168 registers a thread, four with 128, five with 96; the last one
  // gives its own.
  static constexpr int kMathRegisters = kGroups == 2 ? 216 : kGroups == 3 ? 160 : 104;
  static constexpr int kProducerRegisters = kGroups == 3 ? 32 : 56;
  static constexpr int kStageSteps = stage_steps(kRows), kStageBytes = stage_bytes(kRows);
  // Steps of weights on their way to a warp, an even number, and of a loop's round: ptxas wants no
  // way out of the loop that has wgmmas under way (C7513). So a part is made an even number of
  // steps by a zero, and what is left after the last round are some pairs of steps by themselves.
  static constexpr int kAhead = ahead_steps(kRows);
  static constexpr int kPad = pad_steps(kRows);
  static_assert(kPad % 2 == 0 && kPad % kStageSteps == 0 && kAhead % kPad == 0);
  // Warpgroups take turns with a step's wgmmas. A warp that issues them waits until tensor cores
  // have taken the last one; if all do so together, tensor cores idle while all decode.
  static constexpr bool kTurns = kRows == 256;
};

struct Barriers {
  uint64_t full[kMaxDepthGroups][kMaxStages], empty[kMaxDepthGroups][kMaxStages];
  uint64_t sums;
};

struct Kernel {
  CUtensorMap x;  // boxes of 64 of k by a tile's rows (half of them if shared), swizzled, zeros
                  // past the ends
  LinearStreamArgs args;
  int feature_tiles, tiles, stages;
  uint32_t one_over_feature_tiles;  // times 2^32, rounded up
  int cluster, parts;               // that divide k
  int part_steps, longer_parts;     // the first longer_parts have one step more
  int padded_steps;                 // of every part, with zeros
  int blocks, strips;               // of 32 in k; of the weight
  int sums, barriers;               // offsets in shared memory
};

// Of k, in steps.
struct Part {
  int first_step, steps;
  __device__ Part(const Kernel& kernel, int part)
      : first_step(part * kernel.part_steps + min(part, kernel.longer_parts)),
        steps(kernel.part_steps + (part < kernel.longer_parts ? 1 : 0)) {}
};

// A tile's place.
struct Tile {
  int first_row, first_strip;
  template <class S>
  static __device__ Tile of(const Kernel& kernel, int tile, int rank) {
    int row_tile =
        static_cast<int>(__umulhi(static_cast<uint32_t>(tile), kernel.one_over_feature_tiles));
    int feature_tile = tile - row_tile * kernel.feature_tiles;
    if (feature_tile < 0) --row_tile, feature_tile += kernel.feature_tiles;
    if (feature_tile >= kernel.feature_tiles) ++row_tile, feature_tile -= kernel.feature_tiles;
    if (S::kShareRows) feature_tile = 2 * feature_tile + rank;
    return {row_tile * S::kRows, feature_tile * S::kStrips};
  }
};

// The codes and scales of one strip, step after step, a lane's share.
class Weights {
 public:
  // A strip that does not exist is the last one: nobody stores its sums.
  __device__ Weights(const Kernel& kernel, int strip, const Part& part, int lane)
      : lane_(lane), blocks_left_(kernel.blocks - 2 * part.first_step), left_(part.steps) {
    strip = min(strip, kernel.strips - 1);
    const int panel = part.first_step / kPanelSteps, in_panel = part.first_step % kPanelSteps;
    in_tile_ = strip % kTileStrips;
    tile_strips_ = min(kTileStrips, kernel.strips - (strip - in_tile_));
    const int panel_blocks = min(mxfp4::kPanelBlocks, kernel.blocks - panel * mxfp4::kPanelBlocks);
    const int block = (strip - in_tile_) * kernel.blocks +
                      panel * mxfp4::kPanelBlocks * tile_strips_ + in_tile_ * panel_blocks +
                      2 * in_panel;
    codes_ = kernel.args.codes + static_cast<int64_t>(block) * kBlockCodes + lane * 16;
    scales_ = kernel.args.scales + static_cast<int64_t>(block) * kBlockScales + lane / 4 * 4;
    panel_left_ = kPanelSteps - in_panel;
    begin_run();
  }

  // Zeros past the end.
  __device__ __forceinline__ void next(uint4& words, uint32_t& scales) {
    if (run_ == 0) {
      words = make_uint4(0, 0, 0, 0);
      scales = 0;
      if (left_ == 0) return;
      if (panel_left_ == 0) {
        // Over the rest of this panel's strips and those before this one in the next panel.
        const int next_blocks = min(mxfp4::kPanelBlocks, blocks_left_);
        const int others = mxfp4::kPanelBlocks * (tile_strips_ - 1) +
                           in_tile_ * (next_blocks - mxfp4::kPanelBlocks);
        codes_ += others * kBlockCodes, scales_ += others * kBlockScales;
        panel_left_ = kPanelSteps;
      }
      begin_run();
      if (run_ == 0) {  // a block without partner: the last
        const uint2 low = __ldg(reinterpret_cast<const uint2*>(codes_ - lane_ * 8));
        words.x = low.x, words.y = low.y;
        scales = __ldg(reinterpret_cast<const uint16_t*>(scales_ - lane_ / 4 * 2));
        left_ = 0;
        return;
      }
    }
    --run_;
    load_once(words, codes_);
    load_once(scales, scales_);
    codes_ += 2 * kBlockCodes, scales_ += 2 * kBlockScales;
  }

 private:
  // The steps until something else than the next piece of the same panel is wanted.
  __device__ __forceinline__ void begin_run() {
    run_ = min(min(left_, panel_left_), blocks_left_ / 2);
    left_ -= run_, panel_left_ -= run_, blocks_left_ -= 2 * run_;
  }
  // Volatile: loads stay ahead of the products that they are meant to come before.
  static __device__ __forceinline__ void load_once(uint4& v, const void* from) {
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
  }
  static __device__ __forceinline__ void load_once(uint32_t& v, const void* from) {
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(from));
  }

  int lane_, blocks_left_, left_;  // after the run
  int run_ = 0, panel_left_ = 0, in_tile_ = 0, tile_strips_ = 0;
  const uint8_t *codes_ = nullptr, *scales_ = nullptr;
};

__device__ __forceinline__ void tensor_copy(void* to, const CUtensorMap* map, int k, int row,
                                            uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
      "{%2, %3}], [%4];" ::"r"(shared_address(to)),
      "l"(map), "r"(k), "r"(row), "r"(shared_address(barrier))
      : "memory");
}
// To the same place in both CTAs of a cluster.
__device__ __forceinline__ void tensor_copy_to_both(void* to, const CUtensorMap* map, int k,
                                                    int row, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::"
      "cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
      "l"(map), "r"(k), "r"(row), "r"(shared_address(barrier)), "h"(static_cast<uint16_t>(3))
      : "memory");
}

struct Place {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void next(int stages) {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

template <class S>
__device__ __forceinline__ unsigned char* stage_at(const Kernel& kernel, unsigned char* shared,
                                                   int depth_group, int stage) {
  return shared + (depth_group * kernel.stages + stage) * S::kStageBytes;
}

// Asks for rows. One lane.
template <class S>
__device__ void run_rows(const Kernel& kernel, int first_tile, int tile_stride, int rank,
                         unsigned char* shared, Barriers& barriers) {
  constexpr int kStepBytes = S::kRows * kRowBytes;
  Place place[S::kDepthGroups];
  for (int tile = first_tile; tile < kernel.tiles; tile += tile_stride) {
    const int first_row = Tile::of<S>(kernel, tile, rank).first_row;
    int step[S::kDepthGroups], end[S::kDepthGroups], left[S::kDepthGroups];
#pragma unroll
    for (int d = 0; d < S::kDepthGroups; ++d) {
      const Part part(kernel, S::kShareRows ? 0 : rank * S::kDepthGroups + d);
      step[d] = part.first_step, end[d] = part.first_step + part.steps;
      left[d] = kernel.padded_steps;
    }
    for (bool more = true; more;) {
      more = false;
#pragma unroll
      for (int d = 0; d < S::kDepthGroups; ++d) {
        if (left[d] == 0) continue;
        uint64_t* full = &barriers.full[d][place[d].stage];
        unsigned char* to = stage_at<S>(kernel, shared, d, place[d].stage);
        const int steps = min(S::kStageSteps, left[d]);
        mbarrier_wait(&barriers.empty[d][place[d].stage], place[d].parity ^ 1);
        mbarrier_expect(full, static_cast<uint32_t>(steps * kStepBytes));
        for (int i = 0; i < steps; ++i, ++step[d], to += kStepBytes) {
          // Past the end of a part zeros, as there are past the end of k.
          const int first_k =
              step[d] < end[d] ? step[d] * kStepDepth : kernel.blocks * mxfp4::kBlock;
          if (S::kShareRows)
            tensor_copy_to_both(to + rank * (kStepBytes / 2), &kernel.x, first_k,
                                first_row + rank * (S::kRows / 2), full);
          else
            tensor_copy(to, &kernel.x, first_k, first_row, full);
        }
        left[d] -= steps;
        place[d].next(kernel.stages);
        more |= left[d] > 0;
      }
    }
  }
}

// What a warp has under way of one strip.
template <class S>
struct Ahead {
  uint4 words[S::kAhead];
  uint32_t scales[S::kAhead];
};

template <class S>
__device__ __forceinline__ void begin(Weights& weights, Ahead<S>& ahead) {
#pragma unroll
  for (int i = 0; i < S::kAhead; ++i) weights.next(ahead.words[i], ahead.scales[i]);
}

__device__ __forceinline__ void decode_step(const uint4& words, uint32_t scales,
                                            uint32_t (&a)[16]) {
  if (!__any_sync(0xffffffffu, has_large_scale(scales)))
    decode_pair<false>(words, scales, a);
  else
    decode_pair<true>(words, scales, a);
}

// Frees a stage of rows, in both CTAs that share it. One lane of each warp.
template <class S>
__device__ __forceinline__ void free_stage(uint64_t* empty) {
  if constexpr (S::kShareRows) {
#pragma unroll
    for (uint32_t cta = 0; cta < 2; ++cta)
      mbarrier_arrive_in_cta(address_in_cta(shared_address(empty), cta));
  } else {
    mbarrier_arrive(empty);
  }
}

// One warpgroup: 64 features by the tile's rows over its part of k, an even number of steps.
template <class S>
__device__ __forceinline__ void multiply(const Kernel& kernel, int steps, int group,
                                         unsigned char* shared, Barriers& barriers, Place& place,
                                         Weights& weights, Ahead<S>& ahead, int lane,
                                         float (&sums)[S::kRows / 2]) {
#pragma unroll
  for (int i = 0; i < S::kRows / 2; ++i) sums[i] = 0;
  const int depth_group = group / S::kFeatureGroups;
  const int next_group = group + 1 == S::kGroups ? 0 : group + 1;
  uint64_t* full = barriers.full[depth_group];
  uint64_t* empty = barriers.empty[depth_group];
  const uint64_t rows = swizzled_operand(
      shared_address(shared) + static_cast<uint32_t>(depth_group * kernel.stages * S::kStageBytes));
  uint32_t a[2][16];
  decode_step(ahead.words[0], ahead.scales[0], a[0]);
  weights.next(ahead.words[0], ahead.scales[0]);
  int held = -1;  // a stage whose last step is under way
  const auto add_step = [&](int in_stage, uint32_t(&now)[16], uint32_t(&next)[16], uint4& words,
                            uint32_t& scales) {
    if (in_stage == 0) mbarrier_wait(&full[place.stage], place.parity);
    const uint64_t x = rows + static_cast<uint32_t>(place.stage * (S::kStageBytes / 16) +
                                                    in_stage * (S::kRows * kRowBytes / 16));
    if constexpr (S::kTurns) named_barrier(kFirstTurn + group, 256);  // the group before has issued
    wgmma_fence();
#pragma unroll
    for (int j = 0; j < 4; ++j) wgmma_m64k16<S::kRows>(sums, now + 4 * j, x + 2 * j);
    wgmma_commit();
    if constexpr (S::kTurns) named_barrier_arrive(kFirstTurn + next_group, 256);
    wgmma_wait<1>();  // of the step before: its operands may be written
    if (in_stage == 0) {
      if (held >= 0 && lane == 0) free_stage<S>(&empty[held]);
      held = place.stage;
    }
    if (in_stage == S::kStageSteps - 1) place.next(kernel.stages);
    decode_step(words, scales, next);
    weights.next(words, scales);
  };
  const auto add_steps = [&]<int kFirst, int... i>(std::integral_constant<int, kFirst>,
                                                   std::integer_sequence<int, i...>) {
    (add_step((kFirst + i) % S::kStageSteps, a[(kFirst + i) % 2], a[(kFirst + i + 1) % 2],
              ahead.words[(kFirst + i + 1) % S::kAhead],
              ahead.scales[(kFirst + i + 1) % S::kAhead]),
     ...);
  };
  int left = steps;
  for (; left >= S::kAhead; left -= S::kAhead)
    add_steps(std::integral_constant<int, 0>(), std::make_integer_sequence<int, S::kAhead>());
  const auto add_rest = [&]<int... part>(std::integer_sequence<int, part...>) {
    (
        [&] {
          if (left <= part * S::kPad) return;
          wgmma_wait<0>();
          add_steps(std::integral_constant<int, part * S::kPad>(),
                    std::make_integer_sequence<int, S::kPad>());
        }(),
        ...);
  };
  add_rest(std::make_integer_sequence<int, S::kAhead / S::kPad - 1>());
  wgmma_wait<0>();
  if (lane == 0) free_stage<S>(&empty[held]);
}

// As add_pairs(), which ptxas turns into other instructions here.
__device__ __forceinline__ uint32_t add(uint32_t a, uint32_t b) {
  return pack(__uint_as_float(a << 16) + __uint_as_float(b << 16),
              __uint_as_float(a & 0xffff0000u) + __uint_as_float(b & 0xffff0000u));
}

// Biases of the features g and g + 8 of a strip that a lane holds.
struct Bias {
  float low = 0, high = 0;
  __device__ Bias(const LinearStreamArgs& args, int strip, int lane) {
    if (args.bias == nullptr) return;
    const float* bias = args.bias + strip * mxfp4::kStripRows + lane / 4;
    low = __ldg(bias), high = __ldg(bias + 8);
  }
};

// SwiGLU of four sums with their biases: gate and linear part are 4 lanes apart. An even g gets
// output g / 2 of the strip, an odd one 4 + g / 2, of rows 2t and 2t + 1. All lanes take part.
__device__ __forceinline__ uint32_t swiglu_pair(const LinearStreamArgs& args, const float (&v)[4],
                                                int lane) {
  const bool even = lane / 4 % 2 == 0;
  float y[2];
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const float other = __shfl_xor_sync(0xffffffffu, even ? v[2 + j] : v[j], 4);
    y[j] = swiglu(even ? v[j] : other, even ? other : v[2 + j], args.alpha, args.limit);
  }
  return pack(y[0], y[1]);
}

// Stores the sums of one strip and 8 rows.
inline __device__ void store_unit(const LinearStreamArgs& args, int strip, int first_row, int lane,
                                  const float (&sums)[4]) {
  const Bias bias(args, strip, lane);
  const float v[4] = {sums[0] + bias.low, sums[1] + bias.low, sums[2] + bias.high,
                      sums[3] + bias.high};
  const int row = first_row + lane / 4, t = lane % 4;
  if (args.swiglu) {
    const uint32_t y = transposed(swiglu_pair(args, v, lane));  // of `row`, outputs t and t + 4
    if (row >= args.rows) return;
    bf16* out = args.out + row * args.out_stride + strip * (mxfp4::kStripRows / 2) + t;
    *reinterpret_cast<uint16_t*>(out) = static_cast<uint16_t>(y);
    *reinterpret_cast<uint16_t*>(out + 4) = static_cast<uint16_t>(y >> 16);
    return;
  }
  // Features 2t and 2t + 1 of `row`, and those 8 on.
  uint32_t low = transposed(pack(v[0], v[1])), high = transposed(pack(v[2], v[3]));
  if (row >= args.rows) return;
  const int feature = strip * mxfp4::kStripRows + 2 * t;
  if (args.residual != nullptr) {
    const bf16* residual = args.residual + row * args.residual_stride + feature;
    low = add(low, *reinterpret_cast<const uint32_t*>(residual));
    high = add(high, *reinterpret_cast<const uint32_t*>(residual + 8));
  }
  bf16* out = args.out + row * args.out_stride + feature;
  *reinterpret_cast<uint32_t*>(out) = low;
  *reinterpret_cast<uint32_t*>(out + 8) = high;
}

// The same of 32 rows, by a warp's shared memory: 16 bytes a lane go out.
__device__ __forceinline__ void store_rows(const LinearStreamArgs& args, int strip,
                                           const Bias& bias, int first_row, int lane,
                                           unsigned char* staged, const float* sums) {
  uint32_t low[4], high[4];  // of 8 rows each
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float v[4] = {sums[4 * i] + bias.low, sums[4 * i + 1] + bias.low,
                        sums[4 * i + 2] + bias.high, sums[4 * i + 3] + bias.high};
    if (args.swiglu) {
      low[i] = swiglu_pair(args, v, lane);
    } else {
      low[i] = pack(v[0], v[1]);
      high[i] = pack(v[2], v[3]);
    }
  }
  const int piece = lane / 8, row = lane % 8;
  const uint32_t to = shared_address(staged);
  __syncwarp();  // the rows before have been read
  if (args.swiglu) {
    store_transposed(to + static_cast<uint32_t>((8 * piece + row) * kStagedPitch), low[0], low[1],
                     low[2], low[3]);
  } else {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      store_transposed(to + static_cast<uint32_t>((16 * half + piece / 2 * 8 + row) * kStagedPitch +
                                                  piece % 2 * 16),
                       low[2 * half], high[2 * half], low[2 * half + 1], high[2 * half + 1]);
  }
  __syncwarp();  // they are staged
  if (args.swiglu) {
    // Written in the order 0 4 1 5 2 6 3 7.
    uint4 v = *reinterpret_cast<const uint4*>(staged + lane * kStagedPitch);
    v = make_uint4(__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.z, v.w, 0x5410),
                   __byte_perm(v.x, v.y, 0x7632), __byte_perm(v.z, v.w, 0x7632));
    if (first_row + lane < args.rows)
      *reinterpret_cast<uint4*>(args.out + (first_row + lane) * args.out_stride +
                                strip * (mxfp4::kStripRows / 2)) = v;
    return;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int out_row = first_row + 16 * half + lane / 2;
    const int feature = strip * mxfp4::kStripRows + lane % 2 * 8;
    uint4 v = *reinterpret_cast<const uint4*>(staged + (16 * half + lane / 2) * kStagedPitch +
                                              lane % 2 * 16);
    if (out_row >= args.rows) continue;
    if (args.residual != nullptr) {
      const uint4 r =
          *reinterpret_cast<const uint4*>(args.residual + out_row * args.residual_stride + feature);
      v.x = add(v.x, r.x), v.y = add(v.y, r.y), v.z = add(v.z, r.z), v.w = add(v.w, r.w);
    }
    *reinterpret_cast<uint4*>(args.out + out_row * args.out_stride + feature) = v;
  }
}

// How the units of a tile, 8 rows of one strip after the other, are dealt to the CTAs of a cluster
// that add them up.
template <class S>
struct Units {
  int all, each;
  __device__ Units(const Kernel& kernel, int first_row) {
    all = min(S::kRows / 8, (kernel.args.rows - first_row + 7) / 8) * S::kStrips;
    each = (all + kernel.cluster - 1) / kernel.cluster;
  }
  __device__ int of_cta(int rank) const { return max(0, min(each, all - rank * each)); }
};

// Hands a warpgroup's sums of one part to those who add them up.
template <class S>
__device__ __forceinline__ void send_sums(const Kernel& kernel, const Units<S>& units, int part,
                                          int strip, int lane, unsigned char* shared,
                                          Barriers& barriers, const float (&sums)[S::kRows / 2]) {
  const float one_over_each = __frcp_rn(static_cast<float>(units.each));
  const uint32_t here = shared_address(shared) + static_cast<uint32_t>(kernel.sums);
  const uint32_t barrier = shared_address(&barriers.sums);
#pragma unroll
  for (int j = 0; j < S::kRows / 8; ++j) {
    const int unit = j * S::kStrips + strip;
    if (unit >= units.all) break;
    const int owner = static_cast<int>((static_cast<float>(unit) + 0.5f) * one_over_each);
    const int local = unit - owner * units.each;
    const auto at = static_cast<uint32_t>((local * kernel.parts + part) * kUnitBytes + lane * 16);
    store_in_cluster_counted(address_in_cta(here + at, static_cast<uint32_t>(owner)),
                             address_in_cta(barrier, static_cast<uint32_t>(owner)), sums[4 * j],
                             sums[4 * j + 1], sums[4 * j + 2], sums[4 * j + 3]);
  }
}

}  // namespace moxie::hopper::wgmma_linear
