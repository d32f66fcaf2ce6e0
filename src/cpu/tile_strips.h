// Products of MXFP4 weights on AMX tiles, written once for real and for emulated tiles.
//
// Work    strips of 16 features times up to five groups of 16 tokens: the sums of a strip stay in
//         tiles over all of k. Weights go through a ring of a few tiles: while the multiplier works
//         on one column of blocks, the vector units decode the column two further on. More groups
//         take several passes, each decodes again.
// Memory  8 KiB of ring in L1; activations of a task in L2; weights once from memory, fetched a
//         strip ahead, in the order in which they lie
// Cost    for a tile of weights and five of tokens: 16 x 5 cycles of multiplying, 5 KiB from L2,
//         16 blocks to decode. What binds is that decoding and the way from L2 share the core's
//         load and store units (docs/cpu-kernels.md).
//
// `Tiles` is what AMX is, reduced to what the kernels need: eight tiles of 16 rows of 64 bytes.
//   configure(), release()           once around each use, on the thread that uses them
//   zero<T>(), load<T>(p, stride), store<T>(p, stride)    rows `stride` bytes apart, no alignment
//   load_passing<T>(p, stride)       as load, for what need not stay in L1
//   dot<C, A, B>()                   tile C += tile A times tile B, as TDPBF16PS
// `Decode` is how an instruction set makes a tile's row, 32 bf16 numbers on a 64-byte boundary:
//   mxfp4(codes, scale, out)         a block, in the set's order (MatmulKernels::lookup_order)
//   mxfp4_pair(codes, scales, a, b)  a block and the next one
//   mask(count), dense(p, mask, out) `count` elements and zeros behind them
//   prefetch(p)                      the line of p will be needed soon
// Both mark their functions always_inline: one that only prefetches is pure to g++, and what calls
// it without being offered its body early loses the call.
#pragma once

#include <cstdint>

#include "cpu/matmul_kernels.h"

namespace moxie::cpu {

// Template arguments come from anonymous namespaces, so each instance belongs to its file alone.

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};
// f(Constant<0>()), f(Constant<1>()), .. : tile numbers must be constants.
template <int kCount, int kFirst = 0, class F>
[[gnu::always_inline]] inline void unroll(const F& f) {
  if constexpr (kFirst < kCount) {
    f(Constant<kFirst>());
    unroll<kCount, kFirst + 1>(f);
  }
}

inline constexpr int kStripFeatures = 16;
inline constexpr int kTileElements = kStripFeatures * 32;

// Decodes strips into the ring, column after column (two blocks of each feature), kAhead columns
// before they are multiplied. Of an odd number of blocks the last column repeats the last but one.
template <class Decode>
class StripFiller {
 public:
  static constexpr int kAhead = 2, kSlots = 4;
  static constexpr int64_t kSlotElements = int64_t{2} * kTileElements;
  static constexpr int64_t kRingElements = kSlots * kSlotElements;

  // Every strip `passes` times. REQUIRES: features % 16 == 0, k >= 64.
  StripFiller(const PanelSource& source, int64_t passes, uint16_t* ring)
      : source_(source), blocks_(source.k / 32), passes_(passes), ring_(ring) {
    start_strip(0);
    for (int column = 0; column < kAhead; ++column) {
      fill_column();
      next_column();
    }
  }

  // The next column to multiply: a tile for each of its two blocks.
  const uint16_t* column() const { return slot(slot_ + kSlots - kAhead); }

  // Where the next row of the column to fill comes from and goes to. A value that the caller keeps,
  // because the compiler must think that what is stored in the ring changes members.
  struct Place {
    const uint8_t* codes;
    const uint8_t* scales;
    const uint8_t* ahead;  // in the next strip
    uint16_t* out;
    int64_t row_bytes, row_scales;
  };
  Place place() const {
    return {codes_ + block_ * kBlockBytes, scales_ + block_, ahead_, slot(slot_),
            source_.stride * kBlockBytes,  source_.stride};
  }

  // Fills rows [kBegin, kEnd) of the column, which come one after the other.
  template <int kBegin, int kEnd>
  [[gnu::always_inline]] static void rows(Place& at) {
#pragma GCC unroll 16
    for (int row = kBegin; row < kEnd; ++row) {
      Decode::mxfp4_pair(at.codes, at.scales, at.out + row * 32, at.out + kTileElements + row * 32);
      at.codes += at.row_bytes;
      at.scales += at.row_scales;
      if (row % 2 == 0) Decode::prefetch(at.ahead + row * kStepBytes);
    }
  }
  [[gnu::noinline]] void fill_column() {
    Place at = place();
    rows<0, kStripFeatures>(at);
  }

  // After all rows of a column. Behind the last one it is filled again and again, for nobody.
  void next_column() {
    ++slot_;
    if (block_ + 2 < blocks_) {
      block_ += block_ + 3 < blocks_ ? 2 : 1;
      ahead_ += kStripFeatures * kStepBytes;
      scales_ahead_ += 2 * kStripFeatures;
      Decode::prefetch(scales_ahead_);
    } else if (++pass_ < passes_) {
      aim();
    } else if (feature_ + kStripFeatures < source_.features) {
      start_strip(feature_ + kStripFeatures);
    }
  }

 private:
  static constexpr int64_t kBlockBytes = 16, kStepBytes = 2 * kBlockBytes;  // of a row in a column

  uint16_t* slot(uint64_t number) const { return ring_ + number % kSlots * kSlotElements; }

  void start_strip(int64_t feature) {
    feature_ = feature;
    pass_ = 0;
    codes_ = static_cast<const uint8_t*>(source_.weights) + feature_ * source_.stride * kBlockBytes;
    scales_ = source_.scales + feature_ * source_.stride;
    aim();
  }

  // At the strip's first column. The next strip is fetched in one piece, while this one is read in
  // 16 places. (Behind the last strip lie other weights or nothing; a prefetch of nothing does no
  // harm.)
  void aim() {
    block_ = 0;
    ahead_ = codes_ + kStripFeatures * source_.stride * kBlockBytes;
    scales_ahead_ = scales_ + kStripFeatures * source_.stride;
    Decode::prefetch(scales_ahead_);
  }

  const PanelSource source_;
  const int64_t blocks_, passes_;
  uint16_t* const ring_;
  const uint8_t* codes_;  // of the strip
  const uint8_t* scales_;
  const uint8_t* ahead_;
  const uint8_t* scales_ahead_;
  uint64_t slot_ = 0;
  int64_t feature_, pass_, block_;
};

// One strip times kGroups tiles of 16 tokens: sums[g * sums_stride + f * kGroup]. Groups of x are
// x_stride apart.
template <class Tiles, class Decode, int kGroups>
void multiply_strip(Tiles& tiles, StripFiller<Decode>& filler, const uint32_t* x, int64_t x_stride,
                    int64_t blocks, float* sums, int64_t sums_stride) {
  static_assert(kGroups <= 5);
  unroll<kGroups>([&](auto g) { tiles.template zero<g.value>(); });

  // One block, whose weights are the tile at `a`. After each product follow some rows of half
  // `half` of what is to be filled, if that is 0 or 1.
  const auto multiply_block =
      [&](const uint16_t* a, int64_t block, typename StripFiller<Decode>::Place& place, auto half)
          __attribute__((always_inline)) {
            constexpr int kHalf = half.value;
            tiles.template load<5>(a, 64);
            unroll<kGroups>([&](auto g) __attribute__((always_inline)) {
              tiles.template load_passing<7>(x + g.value * x_stride + block * 16 * kGroup, 64);
              tiles.template dot<g.value, 5, 7>();
              if constexpr (kHalf >= 0)
                filler.template rows<kHalf * 8 + 8 * g.value / kGroups,
                                     kHalf * 8 + 8 * (g.value + 1) / kGroups>(place);
            });
          };
  int64_t block = 0;
  for (; block + 1 < blocks; block += 2) {
    auto place = filler.place();
    const uint16_t* column = filler.column();
    multiply_block(column, block, place, Constant<0>());
    multiply_block(column + kTileElements, block + 1, place, Constant<1>());
    filler.next_column();
  }
  if (block < blocks) {  // the last of an odd number
    auto place = filler.place();
    multiply_block(filler.column() + kTileElements, block, place, Constant<-1>());
    filler.fill_column();
    filler.next_column();
  }
  unroll<kGroups>([&](auto g) { tiles.template store<g.value>(sums + g.value * sums_stride, 64); });
}

// A single block of k is half a column: nothing is worth overlapping.
template <class Tiles, class Decode>
void multiply_only_block(const PanelSource& weights, const uint32_t* x, int64_t x_stride,
                         int64_t groups, float* sums) {
  alignas(64) uint16_t tile[kTileElements];
  Tiles tiles;
  tiles.configure();
  for (int64_t f = 0; f < weights.features; f += kStripFeatures) {
    for (int64_t row = 0; row < kStripFeatures; ++row) {
      const int64_t at = (f + row) * weights.stride;
      Decode::mxfp4(static_cast<const uint8_t*>(weights.weights) + at * 16, weights.scales[at],
                    tile + row * 32);
    }
    tiles.template load<5>(tile, 64);
    for (int64_t g = 0; g < groups; ++g) {
      tiles.template zero<0>();
      tiles.template load_passing<7>(x + g * x_stride, 64);
      tiles.template dot<0, 5, 7>();
      tiles.template store<0>(sums + (g * weights.features + f) * kGroup, 64);
    }
  }
  tiles.release();
}

// REQUIRES: features % 16 == 0, k > 0.
template <class Tiles, class Decode>
void multiply_strips(const PanelSource& weights, const uint32_t* x, int64_t x_stride,
                     int64_t groups, float* sums) {
  if (weights.k < 64) return multiply_only_block<Tiles, Decode>(weights, x, x_stride, groups, sums);
  constexpr int64_t kMostGroups = 5;
  using Filler = StripFiller<Decode>;
  const int64_t blocks = weights.k / 32;
  const int64_t sums_stride = weights.features * kGroup;
  const int64_t fewest_passes = (groups + kMostGroups - 1) / kMostGroups;
  const int64_t per_pass = (groups + fewest_passes - 1) / fewest_passes;
  alignas(64) uint16_t ring[Filler::kRingElements];
  Filler filler(weights, (groups + per_pass - 1) / per_pass, ring);
  Tiles tiles;
  tiles.configure();
  for (int64_t f = 0; f < weights.features; f += kStripFeatures) {
    for (int64_t g = 0; g < groups; g += per_pass) {
      const auto multiply = [&](auto count) {
        multiply_strip<Tiles, Decode, count.value>(tiles, filler, x + g * x_stride, x_stride,
                                                   blocks, sums + g * sums_stride + f * kGroup,
                                                   sums_stride);
      };
      switch (groups - g < per_pass ? groups - g : per_pass) {
        case 1:
          multiply(Constant<1>());
          break;
        case 2:
          multiply(Constant<2>());
          break;
        case 3:
          multiply(Constant<3>());
          break;
        case 4:
          multiply(Constant<4>());
          break;
        default:
          multiply(Constant<5>());
      }
    }
  }
  tiles.release();
}

}  // namespace moxie::cpu
