// The math warps of moe_stream.cu: from weights in shared memory to sums of panels.
#pragma once

#include "hopper/device/cluster.cuh"
#include "hopper/device/decode.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/moe_stream_lists.cuh"
#include "hopper/moe_stream_shared.cuh"

namespace moxie::hopper::stream {

// Codes read as bf16 are values times 2^-126, and x lies in shared memory times 2^kScaleExponent:
// their products are far from both ends of float32's range. Scales are applied to the sum of a
// block, in float32, and bring 126 - kScaleExponent with them.
constexpr int kScaleExponent = 64, kSumExponent = 126 - kScaleExponent;
// From this exponent field on a row of x has a power of two of its own, for its largest value.
constexpr int kLargeExponent = 254 - kScaleExponent;
constexpr int kLargestExponent = 254;

// 2^e twice in bf16, -127 < e < 128.
__device__ __forceinline__ uint32_t power_of_two_twice(int e) {
  return static_cast<uint32_t>(e + 127) * 0x00800080u;
}
__device__ __forceinline__ int scale_exponent(int large) {
  return large == 0 ? kScaleExponent : kLargestExponent - 1 - large;
}

// Sums of one panel of a strip by up to eight columns, as in mma_m16n8k16.
class PanelProduct {
 public:
  __device__ __forceinline__ PanelProduct(const Shared& shared, int lane, bool any_large)
      : shared_(shared), lane_(lane), any_large_(any_large) {}

  __device__ __forceinline__ void run(const Unit& unit, const unsigned char* codes,
                                      const unsigned char* scales, float (&sums)[4]) const {
    bool any = unit.blocks != mxfp4::kPanelBlocks;
    if (!any)
      any = unit.entries <= kFewColumns ? multiply_few(unit, codes, scales, sums)
                                        : multiply_many(unit, codes, scales, sums);
    if (__any_sync(kAll, any)) {  // anew, in the general way
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i] = 0;
      multiply_any(unit, codes, scales, sums);
    } else if (any_large_ && unit.up != 0) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        sums[i] *= __uint_as_float(
            static_cast<uint32_t>(kScaleExponent - exponent_of(unit, lane_ % 4 * 2 + i % 2) + 127)
            << 23);
    }
  }

 private:
  static constexpr int kClasses = 4;  // of blocks, by their number: each has a sum for itself
  static constexpr int kFewColumns = 8 / kClasses;
  static constexpr int kBlockBytes = kStepBytes / 2;  // of a row of bf16

  // Where this lane's ldmatrix finds `column`'s row of x, or of values between the products.
  __device__ __forceinline__ uint32_t row_of(const Unit& unit, int column) const {
    const Lists& lists = shared_.lists();
    const Places& at = shared_.kernel.at;
    const int position = unit.first_entry + column;
    const int row = unit.up != 0 ? at.x + lists.row[position] * at.x_pitch
                                 : at.inner + lists.inner_row[position] * at.inner_pitch;
    return shared_address(shared_.base) +
           static_cast<uint32_t>(row + unit.panel * (kPanelDepth * 2) + lane_ / 8 * 16);
  }
  // Columns past the last read the last: their sums are not used.
  __device__ __forceinline__ uint32_t row_of_lane(const Unit& unit) const {
    return row_of(unit, min(lane_ % 8, unit.entries - 1));
  }

  // The power of two that lies in shared memory with column `column`.
  __device__ __forceinline__ int exponent_of(const Unit& unit, int column) const {
    if (!any_large_ || unit.up == 0) return kScaleExponent;
    const Lists& lists = shared_.lists();
    return scale_exponent(lists.large[lists.row[unit.first_entry + min(column, unit.entries - 1)]]);
  }

  // 2^(s - 127 + kSumExponent) of byte `i` of some scales, s < 128.
  template <int i>
  __device__ __forceinline__ float sum_factor(uint32_t scales) const {
    constexpr uint32_t kBias = static_cast<uint32_t>(kSumExponent) << 23;
    return __uint_as_float(__byte_perm(scales, 0, 0x4440 | i) * shared_.kernel.two_to_23 + kBias);
  }

  // Adds 32 of k, or begins with them.
  template <bool kFirst>
  __device__ __forceinline__ void multiply_block(uint32_t low, uint32_t high, uint32_t row,
                                                 float (&products)[4]) const {
    uint32_t a[4], b[4], x[4];
    load_matrices(x, row);
    spread_codes(low, a);
    spread_codes(high, b);
    if (kFirst) {
      mma_m16n8k16_from_zero(products, a[0], b[0], a[1], b[1], x[0], x[1]);
    } else {
      mma_m16n8k16(products, a[0], b[0], a[1], b[1], x[0], x[1]);
    }
    mma_m16n8k16(products, a[2], b[2], a[3], b[3], x[2], x[3]);
  }

  // One or two columns. They stand in columns 2c and 2c + 1 of mma.sync for blocks of class c,
  // where others find zeros: so lanes 4g + c get the sums of class c, and four blocks need one
  // scaling. Returns whether this lane saw a scale that sum_factor() cannot take.
  __device__ __forceinline__ bool multiply_few(const Unit& unit, const unsigned char* codes,
                                               const unsigned char* scales,
                                               float (&sums)[4]) const {
    constexpr int kGroups = mxfp4::kPanelBlocks / kClasses;
    const int column = lane_ % 2, mine = lane_ % 8 / 2, t = lane_ % 4;
    const uint32_t zeros = shared_address(shared_.base) +
                           static_cast<uint32_t>(shared_.kernel.at.zeros + lane_ / 8 * 16);
    const uint32_t row = column < unit.entries ? row_of(unit, column) : zeros;
    uint32_t rows[kClasses];
#pragma unroll
    for (int c = 0; c < kClasses; ++c)
      rows[c] = (c == mine ? row : zeros) + static_cast<uint32_t>(c * kBlockBytes);
    const uint4* lane_codes = reinterpret_cast<const uint4*>(codes) + lane_;
    const unsigned char* lane_scales = scales + lane_ / 4 * 4 + t % 2 * 2;
    uint32_t all = 0;
    float products[4];
#pragma unroll
    for (int group = 0; group <= kGroups; ++group) {
      const bool whole = group < kGroups;  // the last has two blocks
      const uint32_t two = *reinterpret_cast<const uint16_t*>(
          lane_scales + group * kClasses * kBlockScales + (whole ? t / 2 * 32 : 0));
      all |= two;
#pragma unroll
      for (int c = 0; c < (whole ? kClasses : kClasses / 2); c += 2) {
        const uint4 words = lane_codes[(group * 2 + c / 2) * 32];
        const uint32_t before = static_cast<uint32_t>(group * kClasses * kBlockBytes);
        if (c == 0) {
          multiply_block<true>(words.x, words.y, rows[c] + before, products);
        } else {
          multiply_block<false>(words.x, words.y, rows[c] + before, products);
        }
        multiply_block<false>(words.z, words.w, rows[c + 1] + before, products);
      }
      add_scaled(products, sum_factor<0>(two), sum_factor<1>(two), sums);
    }
#pragma unroll
    for (int d = 1; d < kClasses; d *= 2)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i] += __shfl_xor_sync(kAll, sums[i], d);
    return has_large_scale(all);
  }

  // Up to eight columns, with the same sums.
  __device__ __forceinline__ bool multiply_many(const Unit& unit, const unsigned char* codes,
                                                const unsigned char* scales,
                                                float (&sums)[4]) const {
    const uint4* lane_codes = reinterpret_cast<const uint4*>(codes) + lane_;
    const uint32_t* lane_scales = reinterpret_cast<const uint32_t*>(scales) + lane_ / 4;
    const uint32_t row = row_of_lane(unit);
    float of_class[kClasses][4] = {};
    uint32_t all = 0;
#pragma unroll 2
    for (int step = 0; step < mxfp4::kPanelBlocks / 2; ++step) {
      const uint4 words = lane_codes[step * 32];
      const uint32_t four = lane_scales[step * 8];
      all |= four;
      const uint32_t x = row + static_cast<uint32_t>(step * kStepBytes);
      float products[4];
      multiply_block<true>(words.x, words.y, x, products);
      add_scaled(products, sum_factor<0>(four), sum_factor<1>(four), of_class[0]);
      multiply_block<true>(words.z, words.w, x + kBlockBytes, products);
      add_scaled(products, sum_factor<2>(four), sum_factor<3>(four), of_class[1]);
      // Of the next step the others.
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        swap(of_class[0][i], of_class[2][i]);
        swap(of_class[1][i], of_class[3][i]);
      }
    }
    // After an odd number of steps.
    static_assert(mxfp4::kPanelBlocks / 2 % 2 == 1);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      sums[i] = (of_class[2][i] + of_class[3][i]) + (of_class[0][i] + of_class[1][i]);
    return has_large_scale(all);
  }

  static __device__ __forceinline__ void swap(float& a, float& b) {
    const float c = a;
    a = b, b = c;
  }
  static __device__ __forceinline__ void add_scaled(const float (&products)[4], float f, float g,
                                                    float (&sums)[4]) {
    sums[0] = fmaf(products[0], f, sums[0]);
    sums[1] = fmaf(products[1], f, sums[1]);
    sums[2] = fmaf(products[2], g, sums[2]);
    sums[3] = fmaf(products[3], g, sums[3]);
  }

  // For scales that sum_factor() cannot take, and for other depths: weights as they are, by x as it
  // is. A block without partner takes half the bytes.
  __device__ __forceinline__ void multiply_any(const Unit& unit, const unsigned char* codes,
                                               const unsigned char* scales,
                                               float (&sums)[4]) const {
    uint32_t row = row_of_lane(unit);
    const uint32_t back = power_of_two_twice(-exponent_of(unit, lane_ / 4));
    int step = 0;
#pragma unroll 1
    for (; step < unit.blocks / 2; ++step, row += kStepBytes) {
      const uint4 words = reinterpret_cast<const uint4*>(codes)[step * 32 + lane_];
      const uint32_t four = reinterpret_cast<const uint32_t*>(scales)[step * 8 + lane_ / 4];
      multiply_any_block(words.x, words.y, four, row, back, sums);
      multiply_any_block(words.z, words.w, four >> 16, row + kStepBytes / 2, back, sums);
    }
    if (unit.blocks % 2 != 0) {
      const uint2 words = reinterpret_cast<const uint2*>(codes + step * 512)[lane_];
      const uint32_t two = reinterpret_cast<const uint16_t*>(scales + step * 32)[lane_ / 4];
      multiply_any_block(words.x, words.y, two, row, back, sums);
    }
  }

  __device__ __forceinline__ void multiply_any_block(uint32_t low, uint32_t high, uint32_t scales,
                                                     uint32_t row, uint32_t back,
                                                     float (&sums)[4]) const {
    uint32_t x[4];
    load_matrices(x, row);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = multiply_bf16x2(x[i], back);
    const uint4 a = decode_word_any_scale(low, scales & 255u);
    const uint4 b = decode_word_any_scale(high, scales >> 8 & 255u);
    mma_m16n8k16(sums, a.x, b.x, a.y, b.y, x[0], x[1]);
    mma_m16n8k16(sums, a.z, b.z, a.w, b.w, x[2], x[3]);
  }

  const Shared& shared_;
  int lane_;
  bool any_large_;  // a row has a power of two of its own
};

// Largest exponent field of a piece of bf16 from kLargeExponent on, or 0.
__device__ __forceinline__ int large_exponent(const uint4& v) {
  constexpr uint32_t kMagnitude = 0x7fff7fffu, kSigns = 0x80008000u;
  constexpr uint32_t kToSign = static_cast<uint32_t>(256 - kLargeExponent) * 0x00800080u;
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
  uint32_t any = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) any |= (words[i] & kMagnitude) + kToSign;
  if ((any & kSigns) == 0) return 0;
  int largest = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    largest = max(largest, max(static_cast<int>(words[i] >> 7 & 255u),
                               static_cast<int>(words[i] >> 23 & 255u)));
  return min(largest, kLargestExponent);
}
__device__ __forceinline__ uint4 scaled(const uint4& v, uint32_t power) {
  return make_uint4(multiply_bf16x2(v.x, power), multiply_bf16x2(v.y, power),
                    multiply_bf16x2(v.z, power), multiply_bf16x2(v.w, power));
}

// x into shared memory, times 2^kScaleExponent; notes rows that this is too much for.
__device__ __forceinline__ void load_x(const Shared& shared, int thread, int threads) {
  const MoeGroupedArgs& args = shared.kernel.args;
  const int pieces = args.sizes.hidden / 8;  // of 16 bytes, of a row
  const int rows = static_cast<int>(args.sizes.rows);
#pragma unroll 1
  for (int row = 0, i = thread; row < rows; ++row, i -= pieces) {
#pragma unroll 1
    for (; i < pieces; i += threads) {
      const uint4 v = __ldcg(reinterpret_cast<const uint4*>(args.x + row * args.x_stride + i * 8));
      const int large = large_exponent(v);
      if (large != 0) {
        atomicMax(&shared.lists().large[row], large);
        shared.lists().large[kMoeStreamMaxRows] = 1;
      }
      *shared.at<uint4>(shared.kernel.at.x + row * shared.kernel.at.x_pitch + i * 16) =
          scaled(v, power_of_two_twice(kScaleExponent));
    }
  }
}

// Rows with large values anew, each times a power of two of its own.
inline __device__ __noinline__ void scale_large_rows(const Shared shared, int thread, int threads) {
  const MoeGroupedArgs& args = shared.kernel.args;
  for (int row = 0; row < static_cast<int>(args.sizes.rows); ++row) {
    const int large = shared.lists().large[row];
    if (large == 0) continue;
    const uint32_t power = power_of_two_twice(scale_exponent(large));
    for (int i = thread; i < args.sizes.hidden / 8; i += threads)
      *shared.at<uint4>(shared.kernel.at.x + row * shared.kernel.at.x_pitch + i * 16) =
          scaled(*reinterpret_cast<const uint4*>(args.x + row * args.x_stride + i * 8), power);
  }
}

// A math warp: every kernel.warps-th unit, from the warp's slots in turn: `warp` and each
// kernel.warps-th on.
__device__ __forceinline__ void run_math(const Shared& shared, int warp, int lane, bool any_large) {
  const Kernel& kernel = shared.kernel;
  const PanelProduct product(shared, lane, any_large);
  const int column = lane % 4 * 2;
  float* const all_sums = shared.at<float>(kernel.at.sums) + column * kStripRows + lane / 4;
  int slot = warp;
  uint32_t parity = 0;
  for (const Unit* next = shared.units() + warp;; next += kernel.warps) {
    const Unit unit = *next;
    if (unit.blocks == 0) break;
    if (unit.up == 0) {
      mbarrier_wait(shared.inner_full() + unit.place, 0);
      if (lane == 0) MOXIE_MARK_LAST(8);
    }
    mbarrier_wait(shared.full() + slot, parity);
    if (next == shared.units() && lane == 0) MOXIE_MARK(3);
    if (lane == 0) MOXIE_MARK_LAST(9);
    const unsigned char* weights = shared.slot(slot);
    float sums[4] = {};
    product.run(unit, weights, weights + kSlotCodes, sums);
    float* to = all_sums + unit.sums * kStripRows;
    if (column < unit.entries) to[0] = sums[0], to[8] = sums[2];
    if (column + 1 < unit.entries) to[kStripRows] = sums[1], to[kStripRows + 8] = sums[3];
    __syncwarp();  // all lanes have read the slot, and written
    if (lane == 0) {
      mbarrier_arrive(shared.empty() + slot);
      mbarrier_arrive(unit.up != 0 ? shared.up_done() + unit.strip
                                   : shared.inner_empty() + unit.place);
    }
    slot += kernel.warps;
    if (slot >= kernel.slots) slot = warp, parity ^= 1;
  }
}

}  // namespace moxie::hopper::stream
