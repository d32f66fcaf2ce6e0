// One MXFP4 linear on Hopper by warpgroups. Implements linear_wgmma.h.
//
// Work    a CTA makes tiles of 64 features a feature group x 8 to 256 rows. Where tiles alone would
//         not fill the machine, depth groups of a CTA and up to 8 CTAs of a cluster divide k; each
//         CTA then adds up its share of the tile in the order of k. Else CTAs go on from tile to
//         tile, two of them sharing their rows if the tiles allow it
// Warps   two to four math warpgroups: a warp reads its strip's codes and scales from memory
//         straight into registers, some steps ahead, decodes a step into operand A while the
//         wgmmas of the step before run, and multiplies by rows in shared memory (operand B); a
//         lane of another warp asks for rows (TMA)
// Memory  rings of rows, one a depth group; sums of all parts of k, or outputs on their way
// Cost    n * k * 17/32 bytes for each tile of rows; 2 * rows * n * k operations
// Needs   sm_90a; n % 16 == 0; k % 32 == 0
#include <cuda.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <utility>

#include "hopper/device/cluster.cuh"
#include "hopper/device/decode.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/linear_wgmma.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

constexpr int kStepDepth = mxfp4::kPairBlocks * mxfp4::kBlock;  // 64 of k: 4 wgmmas
constexpr int kPanelSteps = mxfp4::kPanelBlocks / mxfp4::kPairBlocks;
constexpr int kTileStrips = mxfp4::kTileRows / mxfp4::kStripRows;
constexpr int kBlockCodes = 256, kBlockScales = 16;  // bytes of a strip, one block deep
constexpr int kRowBytes = kStepDepth * 2;            // of a row of x in a step
constexpr int kUnitBytes = 512;   // sums of a strip and 8 rows, as wgmma leaves them: 16 a lane
constexpr int kStagedPitch = 48;  // 16 features of a row and 16 bytes more, so that banks differ
constexpr int kStagedBytes = 32 * kStagedPitch;  // of a warp
constexpr int kFirstTurn = 1;                    // named barriers, one a warpgroup
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

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}
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
__device__ void store_unit(const LinearStreamArgs& args, int strip, int first_row, int lane,
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

template <class S>
__global__ void __launch_bounds__(S::kThreads, 1)
    sm90_bf16_mxfp4_linear_wgmma(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(1024) unsigned char shared[];
  Barriers& barriers = *reinterpret_cast<Barriers*>(shared + kernel.barriers);
  const LinearStreamArgs& args = kernel.args;
  const bool in_cluster = kernel.cluster > 1 || S::kShareRows;
  const int rank = in_cluster ? cta_in_cluster() : 0;
  const int first_tile = cluster_in_grid(), tile_stride = clusters_in_grid();
  // The same for all threads of a warp, and known to the compiler as such.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp >= S::kGroups * 4) {
    release_registers<S::kProducerRegisters>();
    if (threadIdx.x == S::kMathThreads) {
      for (int d = 0; d < S::kDepthGroups; ++d)
        for (int i = 0; i < kernel.stages; ++i) {
          mbarrier_init(&barriers.full[d][i], 1);
          mbarrier_init(&barriers.empty[d][i], S::kFeatureGroups * 4 * (S::kShareRows ? 2 : 1));
        }
      mbarrier_init(&barriers.sums, 1);
      fence_mbarrier_init();
      if (kernel.parts > 1)
        mbarrier_expect(
            &barriers.sums,
            static_cast<uint32_t>(
                Units<S>(kernel, Tile::of<S>(kernel, first_tile, rank).first_row).of_cta(rank) *
                kernel.parts * kUnitBytes));
    }
    __syncwarp();
    if (in_cluster) cluster_arrive_relaxed();
    __syncthreads();  // barriers are initialised
    let_next_kernel_start();
    if (S::kShareRows) cluster_wait();  // the other CTA's too
    if (threadIdx.x == S::kMathThreads) {
      wait_for_previous_kernel();
      run_rows<S>(kernel, first_tile, tile_stride, rank, shared, barriers);
    }
    __syncwarp();
    if (in_cluster && !S::kShareRows) cluster_wait();
  } else {
    take_registers<S::kMathRegisters>();
    const int group = warp / 4, depth_group = group / S::kFeatureGroups;
    const int strip_in_tile = warp - depth_group * S::kStrips;
    const int part_of_k = S::kShareRows ? 0 : rank * S::kDepthGroups + depth_group;
    const Part part(kernel, part_of_k);
    // Weights do not depend on the kernel before this one; x does, and out may be what that kernel
    // still reads.
    Tile tile = Tile::of<S>(kernel, first_tile, rank);
    Weights weights(kernel, tile.first_strip + strip_in_tile, part, lane);
    Ahead<S> ahead;
    begin(weights, ahead);
    if (in_cluster) cluster_arrive_relaxed();
    __syncthreads();  // barriers are initialised
    if (S::kTurns && group == S::kGroups - 1) named_barrier_arrive(kFirstTurn, 256);
    float sums[S::kRows / 2];
    Place place;
    for (int t = first_tile; t < kernel.tiles; t += tile_stride) {
      const int strip = tile.first_strip + strip_in_tile, first_row = tile.first_row;
      multiply<S>(kernel, kernel.padded_steps, group, shared, barriers, place, weights, ahead, lane,
                  sums);
      if (kernel.parts > 1) {
        if (in_cluster) cluster_wait();  // the other CTAs have started, with their barriers
        const Units<S> units(kernel, first_row);
        send_sums<S>(kernel, units, part_of_k, strip_in_tile, lane, shared, barriers, sums);
        wait_for_previous_kernel();
        const int own = units.of_cta(rank);
        if (own == 0) break;
        mbarrier_wait(&barriers.sums, 0);
        for (int i = warp; i < own; i += S::kGroups * 4) {
          const int unit = rank * units.each + i, eight = unit / S::kStrips;
          const int unit_strip = tile.first_strip + unit - eight * S::kStrips;
          const float4* from = reinterpret_cast<const float4*>(shared + kernel.sums +
                                                               i * kernel.parts * kUnitBytes) +
                               lane;
          float4 v = from[0];
          float sum[4] = {v.x, v.y, v.z, v.w};
#pragma unroll 4
          for (int p = 1; p < kernel.parts; ++p) {
            v = from[p * (kUnitBytes / 16)];
            sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
          }
          if (unit_strip < kernel.strips)
            store_unit(args, unit_strip, first_row + 8 * eight, lane, sum);
        }
        break;
      }
      if (t + tile_stride < kernel.tiles) {
        tile = Tile::of<S>(kernel, t + tile_stride, rank);
        weights = Weights(kernel, tile.first_strip + strip_in_tile, part, lane);
        begin(weights, ahead);
      }
      wait_for_previous_kernel();
      if (strip < kernel.strips) {
        if constexpr (S::kRows % 32 == 0) {
          const Bias bias(args, strip, lane);
#pragma unroll
          for (int i = 0; i < S::kRows / 32; ++i)
            store_rows(args, strip, bias, first_row + 32 * i, lane,
                       shared + kernel.sums + warp * kStagedBytes, sums + 16 * i);
        } else {
#pragma unroll
          for (int i = 0; i < S::kRows / 8; ++i) {
            const float unit[4] = {sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]};
            store_unit(args, strip, first_row + 8 * i, lane, unit);
          }
        }
      }
    }
    if (S::kShareRows) cluster_wait();  // of the beginning
  }
  if (S::kShareRows) {
    cluster_arrive();
    cluster_wait();  // the other CTA writes no more rows or arrivals into this one's memory
  }
}

using KernelFunction = void (*)(Kernel);
struct Instance {
  int feature_groups, depth_groups, tile_rows;
  bool share_rows;
  double step_us;  // of a CTA, measured (docs/measured.md)
  int threads;
  KernelFunction function;
};
template <int kFeatureGroups, int kDepthGroups, int kTileRows, bool kShareRows = false>
constexpr Instance instance(double step_us) {
  using S = Shape<kFeatureGroups, kDepthGroups, kTileRows, kShareRows>;
  return {kFeatureGroups,
          kDepthGroups,
          kTileRows,
          kShareRows,
          step_us,
          S::kThreads,
          sm90_bf16_mxfp4_linear_wgmma<S>};
}
constexpr Instance kInstances[] = {instance<2, 2, 8>(0.348),   instance<2, 2, 16>(0.394),
                                   instance<3, 1, 16>(0.304),  instance<3, 1, 32>(0.337),
                                   instance<2, 1, 64>(0.332),  instance<3, 1, 64>(0.406),
                                   instance<2, 1, 128>(0.463), instance<3, 1, 128>(0.590),
                                   instance<2, 1, 256>(0.665), instance<2, 1, 256, true>(0.755)};

const Instance* instance_of(const LinearWgmmaConfig& config) {
  for (const Instance& i : kInstances)
    if (i.feature_groups == config.feature_groups && i.depth_groups == config.depth_groups &&
        i.tile_rows == config.tile_rows && i.share_rows == config.share_rows)
      return &i;
  return nullptr;
}

// The driver's function, found without linking against the driver.
cudaError_t encode_rows(const LinearStreamArgs& args, int tile_rows, CUtensorMap* map) {
  using Encode =
      CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                   const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                   CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                         cudaEnableDefault, &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess)
      function = nullptr;
    return reinterpret_cast<Encode>(function);
  }();
  if (encode == nullptr) return cudaErrorNotSupported;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(args.k), static_cast<cuuint64_t>(args.rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(args.x_stride) * sizeof(bf16)};
  const cuuint32_t box[2] = {kStepDepth, static_cast<cuuint32_t>(tile_rows)};
  const cuuint32_t element_strides[2] = {1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<bf16*>(args.x), sizes, strides,
             box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

int steps_of(int k) { return (k + kStepDepth - 1) / kStepDepth; }

// Clusters that are there at once: their CTAs share one of an H200's parts of 16 or 18 SMs.
int resident_clusters(int cluster, int num_sms) {
  constexpr int kOf132[] = {132, 66, 39, 30, 22, 17, 15, 15};
  return std::max(1, kOf132[cluster - 1] * num_sms / 132);
}

}  // namespace

bool supports_linear_wgmma(int rows, int n, int k) {
  return rows >= 1 && n > 0 && k > 0 && mxfp4::has_weight_layout(n, k) &&
         int64_t{n} / mxfp4::kStripRows * (k / mxfp4::kBlock) < (int64_t{1} << 31);
}

LinearWgmmaConfig linear_wgmma_config(LinearWgmmaConfig c, int rows, int n, int k, int num_sms) {
  const int features = c.feature_groups * mxfp4::kTileRows,
            groups = c.feature_groups * c.depth_groups;
  const int feature_tiles = (n + features - 1) / features;
  const int row_tiles = (rows + c.tile_rows - 1) / c.tile_rows;
  const int parts = c.cluster * c.depth_groups;
  c.tiles = (c.share_rows ? (feature_tiles + 1) / 2 : feature_tiles) * row_tiles;
  const int clusters = parts > 1 ? c.tiles : std::min(c.tiles, num_sms / (c.share_rows ? 2 : 1));
  c.ctas = clusters * (c.share_rows ? 2 : c.cluster);
  const int units = c.tile_rows / 8 * c.feature_groups * kTileStrips;
  const int sums = parts > 1 ? (units + c.cluster - 1) / c.cluster * parts * kUnitBytes
                             : groups * 4 * kStagedBytes;
  const int rest = sums + static_cast<int>(sizeof(Barriers));
  const int stage = c.depth_groups * stage_bytes(c.tile_rows);
  const int pad = pad_steps(c.tile_rows), part_steps = (steps_of(k) + parts - 1) / parts;
  const int most = (part_steps + pad - 1) / pad * (pad / stage_steps(c.tile_rows));
  c.stages =
      std::min({kMaxStages, (kSharedLimit - rest) / stage, clusters < c.tiles ? kMaxStages : most});
  c.shared_bytes = c.stages * stage + rest;
  return c;
}

double linear_wgmma_us(const LinearWgmmaConfig& c, int rows, int n, int k, int num_sms) {
  const Instance* instance = instance_of(c);
  if (instance == nullptr) return 1e9;
  const int parts = c.cluster * c.depth_groups, pad = pad_steps(c.tile_rows);
  const int steps = ((steps_of(k) + parts - 1) / parts + pad - 1) / pad * pad;
  const int resident = resident_clusters(c.share_rows ? 2 : c.cluster, num_sms);
  const int waves = (c.tiles + resident - 1) / resident;
  // Large tiles wait for rows that no longer fit in the L2 with the weight, unless two CTAs share
  // them.
  const bool far_rows = c.tile_rows == 256 && !c.share_rows && 2.0 * rows * k > 20e6;
  const double kernel_us = 2.5 + waves * steps * instance->step_us * (far_rows ? 1.2 : 1);
  if (parts == 1) return kernel_us + (waves - 1) * 2.8;  // outputs are stored, the next rows come
  const int tile_rows = std::min(c.tile_rows, (rows + 7) / 8 * 8);
  const double sums_bytes = c.feature_groups * mxfp4::kTileRows * tile_rows * 4.0 * c.depth_groups;
  return kernel_us + 0.7 + sums_bytes * 6e-5 + (waves - 1) * 1.8;
}

std::vector<LinearWgmmaConfig> linear_wgmma_configs(int rows, int n, int k, int num_sms) {
  std::vector<LinearWgmmaConfig> configs;
  for (const Instance& i : kInstances)
    for (int cluster = 1; cluster <= (i.share_rows ? 1 : 8); ++cluster) {
      if (cluster * i.depth_groups > steps_of(k) || cluster > num_sms) continue;
      LinearWgmmaConfig config;
      config.feature_groups = i.feature_groups, config.depth_groups = i.depth_groups;
      config.tile_rows = i.tile_rows, config.cluster = cluster;
      config.share_rows = i.share_rows;
      config = linear_wgmma_config(config, rows, n, k, num_sms);
      // With more tiles than clusters at once dividing k has nothing to offer.
      if (config.stages < 1 || (cluster > 1 && config.ctas > num_sms)) continue;
      configs.push_back(config);
    }
  return configs;
}

LinearWgmmaConfig select_linear_wgmma_config(int rows, int n, int k, int num_sms) {
  LinearWgmmaConfig best;
  double best_us = 0;
  for (const LinearWgmmaConfig& config : linear_wgmma_configs(rows, n, k, num_sms)) {
    const double us = linear_wgmma_us(config, rows, n, k, num_sms);
    if (best_us == 0 || us < best_us) best = config, best_us = us;
  }
  return best;
}

std::string to_string(const LinearWgmmaConfig& c) {
  return "linear_wgmma: " + std::to_string(c.feature_groups * mxfp4::kTileRows) + " features x " +
         std::to_string(c.tile_rows) + " rows, k in " + std::to_string(c.cluster) + " x " +
         std::to_string(c.depth_groups) + " parts, " + std::to_string(c.stages) + " stages, " +
         std::to_string(c.tiles) + " tiles" + (c.share_rows ? " of two CTAs, " : ", ") +
         std::to_string(c.ctas) + " CTAs, " + std::to_string(c.shared_bytes) +
         " bytes of shared memory";
}

cudaError_t prepare_linear_wgmma() {
  for (const Instance& i : kInstances) {
    const cudaError_t error =
        cudaFuncSetAttribute(i.function, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t launch_linear_wgmma(const LinearStreamArgs& args, const LinearWgmmaConfig& config,
                                bool overlap_previous, cudaStream_t stream) {
  const Instance* instance = instance_of(config);
  if (instance == nullptr || config.stages < 1) return cudaErrorInvalidValue;
  Kernel kernel{};
  const cudaError_t error =
      encode_rows(args, config.share_rows ? config.tile_rows / 2 : config.tile_rows, &kernel.x);
  if (error != cudaSuccess) return error;
  const int features = config.feature_groups * mxfp4::kTileRows, steps = steps_of(args.k);
  kernel.args = args;
  kernel.feature_tiles = (args.n + features - 1) / features;
  if (config.share_rows) kernel.feature_tiles = (kernel.feature_tiles + 1) / 2;
  kernel.one_over_feature_tiles = static_cast<uint32_t>(std::min<uint64_t>(
      (uint64_t{1} << 32) / static_cast<uint64_t>(kernel.feature_tiles) + 1, 0xffffffffu));
  kernel.tiles = config.tiles, kernel.stages = config.stages;
  kernel.cluster = config.cluster, kernel.parts = config.cluster * config.depth_groups;
  kernel.part_steps = steps / kernel.parts, kernel.longer_parts = steps % kernel.parts;
  const int pad = pad_steps(config.tile_rows);
  kernel.padded_steps = (kernel.part_steps + (kernel.longer_parts > 0) + pad - 1) / pad * pad;
  kernel.blocks = args.k / mxfp4::kBlock, kernel.strips = args.n / mxfp4::kStripRows;
  kernel.sums = config.stages * config.depth_groups * stage_bytes(config.tile_rows);
  kernel.barriers = config.shared_bytes - static_cast<int>(sizeof(Barriers));
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(config.share_rows ? 2 : config.cluster);
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.ctas));
  launch.blockDim = dim3(static_cast<unsigned>(instance->threads));
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = attributes;
  launch.numAttrs = overlap_previous ? 2 : 1;
  return cudaLaunchKernelEx(&launch, instance->function, kernel);
}

}  // namespace moxie::hopper
