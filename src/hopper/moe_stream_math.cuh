// The math warps of moe_stream.cu: from weights in memory to sums, hidden values and outputs.
#pragma once

#include "hopper/device/cluster.cuh"
#include "hopper/device/decode.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/moe_stream_lists.cuh"
#include "hopper/moe_stream_shared.cuh"

namespace moxie::hopper::stream {

// A warp's units: asks for their weights, multiplies, adds up.
class MathWarp {
 public:
  __device__ __forceinline__ MathWarp(const Shared& shared, int warp, int lane)
      : shared_(shared),
        kernel_(shared.kernel),
        plan_(shared.kernel.plan),
        lists_(shared.lists()),
        warp_(warp),
        lane_(lane),
        units_(shared.at<Unit>(shared.kernel.at.units) + warp * shared.kernel.warp_units),
        owned_(plan_.owned(static_cast<int>(blockIdx.x))) {}

  // Asks for the weights of the warp's first unit, then lists all, a lane a unit, and asks for
  // those of other slots.
  __device__ __forceinline__ void begin() {
#pragma unroll 1
    for (int i = -32; i < kernel_.warp_units; i += 32) {
      const int mine = i < 0 ? 0 : i + lane_;
      const Unit unit = Units(kernel_, lists_.places, warp_ + mine * kernel_.warps).get(lists_);
      if (i < 0) {
        request(unit, 0);
      } else if (mine < kernel_.warp_units) {
        units_[mine] = unit;
      }
    }
    __syncwarp();  // they are written
    for (int i = 1; i < kernel_.slots; ++i)
      if (i < kernel_.warp_units) request(units_[i], i);
  }

  __device__ __forceinline__ void run() {
    int slot = 0;
    uint32_t parity = 0;
    for (int i = 0; i < kernel_.warp_units; ++i) {
      const Unit unit = units_[i];
      if (unit.blocks == 0) break;
      const bool up = unit.up != 0;
      const uint32_t rows = rows_of(unit);
      if (!up) mbarrier_wait(shared_.inner_full() + unit.place, 0);
      if (lane_ == 0 && !up) MOXIE_MARK_LAST(8);
      mbarrier_wait(shared_.full(warp_) + slot, parity);
      if (warp_ == 0 && lane_ == 0 && i == 0) MOXIE_MARK(3);
      if (lane_ == 0) MOXIE_MARK_LAST(9);
      float sums[4] = {};
      multiply(shared_.slot(warp_, slot), unit.blocks, rows, sums);
      __syncwarp();  // all lanes have read the slot before it is written anew
      if (i + kernel_.slots < kernel_.warp_units) request(units_[i + kernel_.slots], slot);
      if (++slot == kernel_.slots) slot = 0, parity ^= 1;
      if (!up && lane_ == 0) mbarrier_arrive(shared_.inner_empty() + unit.place);
      finish(unit, sums);
    }
  }

 private:
  // Asks for a unit's weights, if there is one. One lane copies codes, one scales.
  __device__ __forceinline__ void request(const Unit& unit, int slot) {
    if (unit.blocks == 0) return;
    uint64_t* full = shared_.full(warp_) + slot;
    if (lane_ == 0)
      mbarrier_expect(full, static_cast<uint32_t>(unit.blocks * (kBlockCodes + kBlockScales)));
    __syncwarp();  // expected before it can have arrived
    if (lane_ >= 2) return;
    const MoeGroupedArgs& args = kernel_.args;
    const bool scales = lane_ == 1, up = unit.up != 0;
    const int unit_bytes = scales ? kBlockScales : kBlockCodes;
    const uint8_t* matrices = up ? (scales ? args.gate_up_scales : args.gate_up_codes)
                                 : (scales ? args.down_scales : args.down_codes);
    bulk_copy(shared_.slot(warp_, slot) + (scales ? kSlotCodes : 0),
              matrices + static_cast<int64_t>(unit.begin) * unit_bytes,
              static_cast<uint32_t>(unit.blocks * unit_bytes), full);
  }

  // Where this lane's ldmatrix finds its row of x, or of values between the products. Columns past
  // the last read the last: their sums are not used.
  __device__ __forceinline__ uint32_t rows_of(const Unit& unit) const {
    const int position = unit.first_entry + min(lane_ % 8, unit.entries - 1);
    const Places& at = kernel_.at;
    int offset = unit.panel * (kPanelDepth * 2) + lane_ / 8 * 16;
    if (unit.up != 0) {
      offset += at.x + lists_.row[position] * at.x_pitch;
    } else {
      offset += at.inner + lists_.inner_row[position] * at.inner_pitch;
    }
    return shared_address(shared_.base) + static_cast<uint32_t>(offset);
  }

  template <int kBlockOfPair, bool kAnyScale>
  __device__ __forceinline__ void multiply_block(uint32_t low, uint32_t high, uint32_t scales,
                                                 uint32_t row, float (&sums)[4]) const {
    uint32_t a[4], b[4], x[4];
    load_matrices(x, row);
    if constexpr (kAnyScale) {
      const uint4 u = decode_word_any_scale(low, (scales >> (16 * kBlockOfPair)) & 255u);
      const uint4 v = decode_word_any_scale(high, (scales >> (16 * kBlockOfPair + 8)) & 255u);
      a[0] = u.x, a[1] = u.y, a[2] = u.z, a[3] = u.w;
      b[0] = v.x, b[1] = v.y, b[2] = v.z, b[3] = v.w;
    } else {
      decode_word(low, small_factor<2 * kBlockOfPair>(scales), a);
      decode_word(high, small_factor<2 * kBlockOfPair + 1>(scales), b);
    }
    mma_m16n8k16(sums, a[0], b[0], a[1], b[1], x[0], x[1]);
    mma_m16n8k16(sums, a[2], b[2], a[3], b[3], x[2], x[3]);
  }

  // The sums of a panel: of first blocks of pairs, and of second ones, then both.
  __device__ __forceinline__ void multiply(const unsigned char* slot, int blocks, uint32_t row,
                                           float (&sums)[4]) const {
    const uint4* codes = reinterpret_cast<const uint4*>(slot) + lane_;
    const uint32_t* scales = reinterpret_cast<const uint32_t*>(slot + kSlotCodes);
    scales += lane_ / 4;
    float second[4] = {};
    uint32_t all = 0;
    const bool whole = blocks == mxfp4::kPanelBlocks;
    if (whole) {
#pragma unroll 3
      for (int step = 0; step < mxfp4::kPanelBlocks / 2; ++step) {
        const uint4 words = codes[step * 32];
        const uint32_t factors = scales[step * 8];
        all |= factors;
        const uint32_t x = row + static_cast<uint32_t>(step * kStepBytes);
        multiply_block<0, false>(words.x, words.y, factors, x, sums);
        multiply_block<1, false>(words.z, words.w, factors, x + kStepBytes / 2, second);
      }
    }
    if (__any_sync(kAll, !whole || has_large_scale(all))) {  // anew, in the general way
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i] = second[i] = 0;
      multiply_any(slot, blocks, row, sums, second);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += second[i];
  }

  // The same for scales that decode_word() cannot take, and for other depths; a block without
  // partner takes half the bytes.
  __device__ __forceinline__ void multiply_any(const unsigned char* slot, int blocks, uint32_t row,
                                               float (&sums)[4], float (&second)[4]) const {
    const unsigned char* scales = slot + kSlotCodes;
    int step = 0;
#pragma unroll 1
    for (; step < blocks / 2; ++step, row += kStepBytes) {
      const uint4 words = reinterpret_cast<const uint4*>(slot)[step * 32 + lane_];
      const uint32_t factors = reinterpret_cast<const uint32_t*>(scales)[step * 8 + lane_ / 4];
      multiply_block<0, true>(words.x, words.y, factors, row, sums);
      multiply_block<1, true>(words.z, words.w, factors, row + kStepBytes / 2, second);
    }
    if (blocks % 2 != 0) {
      const uint2 words = reinterpret_cast<const uint2*>(slot + step * 512)[lane_];
      const uint32_t factors = reinterpret_cast<const uint16_t*>(scales + step * 32)[lane_ / 4];
      multiply_block<0, true>(words.x, words.y, factors, row, sums);
    }
  }

  // Keeps a panel's sums; adds up the strip's when they are all there.
  __device__ __forceinline__ void finish(const Unit& unit, const float (&sums)[4]) const {
    const bool up = unit.up != 0;
    const int panels = up ? plan_.up_panels : plan_.down_panels, count = unit.entries;
    float* of_panel = shared_.at<float>(kernel_.at.sums) + unit.sums * kStripRows;
    const int g = lane_ / 4, column = lane_ % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (column + i < count) {
        of_panel[(column + i) * kStripRows + g] = sums[i];
        of_panel[(column + i) * kStripRows + g + 8] = sums[2 + i];
      }
    __syncwarp();  // all lanes have written
    uint64_t* done =
        shared_.at<uint64_t>(up ? kernel_.at.up_done : kernel_.at.down_done) + unit.strip;
    bool last = false;
    if (lane_ == 0) last = mbarrier_arrive_pending(done) == 1;
    if (!__shfl_sync(kAll, static_cast<int>(last), 0)) return;
    mbarrier_wait(done, 0);  // is over; shows the other warps' sums
    const int row = lane_ % kStripRows;
    const float* of_strip = of_panel - unit.panel * count * kStripRows;
    mbarrier_wait(shared_.bias_full(), 0);
    const float bias = shared_.at<float>(up ? kernel_.at.up_bias
                                            : kernel_.at.down_bias)[unit.strip * kStripRows + row];
#pragma unroll 1
    for (int first = 0; first < count; first += 2) {
      const int c = min(first + lane_ / kStripRows, count - 1);
      const bool mine = first + lane_ / kStripRows < count;
      const float* sum = of_strip + c * kStripRows + row;
      float total = sum[0];
#pragma unroll 4
      for (int panel = 1; panel < panels; ++panel) total += sum[panel * count * kStripRows];
      total += bias;
      const int entry = lists_.entry[unit.first_entry + c];
      if (up) {
        const float other = __shfl_xor_sync(kAll, total, 1);  // gate and linear part alternate
        if (mine && row % 2 == 0)
          shared_.staged(unit.first_entry, unit.in_place * count + c)[row / 2] =
              __float2bfloat16(swiglu(total, other, kernel_.args.alpha, kernel_.args.limit));
      } else if (mine) {
        reinterpret_cast<__nv_bfloat16*>(
            shared_.outputs())[(entry * owned_ + unit.in_place) * kStripRows + row] =
            __float2bfloat16(total * lists_.weight[entry]);
      }
    }
    if (up) {
      __syncwarp();  // all lanes have written
      if (lane_ == 0) mbarrier_arrive(shared_.up_ready() + unit.place);
      if (lane_ == 0) MOXIE_MARK_LAST(4);
    }
  }

  const Shared& shared_;
  const Kernel& kernel_;
  const MoeStreamPlan& plan_;
  const Lists& lists_;
  int warp_, lane_;
  Unit* units_;  // the warp's
  int owned_;
};

}  // namespace moxie::hopper::stream
