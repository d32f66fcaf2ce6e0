// Products on AMX tiles, written once for real and for emulated tiles.
//
// Work    strips of 16 features times up to five groups of 16 tokens: the sums of a strip stay in
//         tiles over all of k. Weights go through a ring of a few tiles: while the multiplier works
//         on one column of blocks, the vector units decode the column two further on. More groups
//         take several passes, each decodes again.
// Memory  8 KiB of ring in L1; activations of a task in L2; weights once from memory, fetched a
//         strip ahead, in the order in which they lie
// Cost    for a tile of weights and five of tokens: 16 x 5 cycles of multiplying, 5 KiB from L2,
//         16 blocks to decode. L2 is the limit (docs/cpu-kernels.md).
//
// `Tiles` is what AMX is, reduced to what the kernels need: eight tiles of 16 rows of 64 bytes.
//   configure(), release()           once around each use, on the thread that uses them
//   zero<T>(), load<T>(p, stride), store<T>(p, stride)    rows `stride` bytes apart, no alignment
//   dot<C, A, B>()                   tile C += tile A times tile B, as TDPBF16PS
// `Decode` is how an instruction set makes a tile's row, 32 bf16 numbers on a 64-byte boundary:
//   mxfp4(codes, scale, out)         a block, in the set's order (MatmulKernels::lookup_order)
//   mask(count), dense(p, mask, out) `count` elements and zeros behind them
//   prefetch(p)                      the line of p will be needed soon
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
template <class Decode, bool kDense>
class StripFiller {
 public:
  static constexpr int kAhead = 2, kSlots = 4;
  static constexpr int64_t kSlotElements = int64_t{2} * kTileElements;
  static constexpr int64_t kRingElements = kSlots * kSlotElements;

  // Every strip `passes` times. REQUIRES: features > 0, k > 0.
  StripFiller(const PanelSource& source, int64_t passes, uint16_t* ring)
      : source_(source),
        row_bytes_(source.stride * (kDense ? 2 : 16)),
        blocks_((source.k + 31) / 32),
        passes_(passes),
        ring_(ring) {
    set_slot(0);
    start_strip(0);
    for (int column = 0; column < kAhead; ++column) {
      fill_column();
      next_column();
    }
  }

  // The next column to multiply: a tile for each of its two blocks.
  const uint16_t* column() const { return column_; }

  // Fills the column, or some of its rows.
  [[gnu::noinline]] void fill_column() { rows<0, kStripFeatures>(); }
  template <int kBegin, int kEnd>
  [[gnu::always_inline]] void rows() {
#pragma GCC unroll 16
    for (int row = kBegin; row < kEnd; ++row) {
      uint16_t* out = out_ + row * 32;
      const uint8_t* weights = weights_[row];
      if constexpr (kDense) {
        const auto* p = reinterpret_cast<const uint16_t*>(weights);
        Decode::dense(p, first_mask_, out);
        Decode::dense(p + 32, second_mask_, out + kTileElements);
        Decode::prefetch(ahead_ + row * kStepBytes + 64);
      } else {
        const uint8_t* scales = scales_[row];
        Decode::mxfp4(weights, scales[0], out);
        Decode::mxfp4(weights + 16, scales[1], out + kTileElements);
      }
      Decode::prefetch(ahead_ + row * kStepBytes);
    }
  }

  // After all rows of a column. Behind the last one it is filled again and again, for nobody.
  void next_column() {
    set_slot(slot_ + 1);
    if (block_ + 2 < blocks_) {
      move(block_ + 3 < blocks_ ? 2 : 1);
    } else if (++pass_ < passes_) {
      aim();
    } else if (feature_ + kStripFeatures < source_.features) {
      start_strip(feature_ + kStripFeatures);
    }
  }

 private:
  static constexpr int64_t kBlockBytes = kDense ? 64 : 16;
  static constexpr int64_t kStepBytes = 2 * kBlockBytes;  // of a row in a column

  void set_slot(int64_t slot) {
    slot_ = slot;
    out_ = ring_ + slot % kSlots * kSlotElements;
    column_ = ring_ + (slot + kSlots - kAhead) % kSlots * kSlotElements;
  }

  void start_strip(int64_t feature) {
    feature_ = feature;
    pass_ = 0;
    aim();
  }

  // At the strip's first column. Rows behind the last feature repeat it; their sums are not used.
  void aim() {
    const auto* weights = static_cast<const uint8_t*>(source_.weights);
    for (int i = 0; i < kStripFeatures; ++i) {
      const int64_t f = feature_ + i < source_.features ? feature_ + i : source_.features - 1;
      weights_[i] = weights + f * row_bytes_;
      if constexpr (!kDense) scales_[i] = source_.scales + f * source_.stride;
    }
    block_ = 0;
    ahead_ = weights + (feature_ + kStripFeatures) * row_bytes_;
    if constexpr (!kDense)
      scales_ahead_ = source_.scales + (feature_ + kStripFeatures) * source_.stride;
    if (blocks_ == 1) copy_only_block();
    start_column();
  }

  // A column has two blocks, and there is but one: the other is zero.
  void copy_only_block() {
    for (int i = 0; i < kStripFeatures; ++i) {
      const int64_t bytes = kDense ? source_.k * 2 : kBlockBytes;
      for (int64_t j = 0; j < kStepBytes; ++j) copies_[i][j] = j < bytes ? weights_[i][j] : 0;
      weights_[i] = copies_[i];
      if constexpr (!kDense) {
        scale_copies_[i][0] = *scales_[i];
        scale_copies_[i][1] = 0;
        scales_[i] = scale_copies_[i];
      }
    }
  }

  void move(int64_t blocks) {
    for (int i = 0; i < kStripFeatures; ++i) weights_[i] += blocks * kBlockBytes;
    if constexpr (!kDense)
      for (int i = 0; i < kStripFeatures; ++i) scales_[i] += blocks;
    block_ += 2;
    ahead_ += kStripFeatures * kStepBytes;
    start_column();
  }

  // The next strip is fetched in one piece, while this one is read in 16 places. (Behind the
  // last strip lie other weights or nothing; a prefetch of nothing does no harm.)
  void start_column() {
    if constexpr (kDense) {
      const int64_t first = block_ > 0 && block_ + 1 == blocks_ ? block_ - 1 : block_;
      const int64_t left = source_.k - first * 32;
      first_mask_ = Decode::mask(left);
      second_mask_ = Decode::mask(left - 32);
    } else {
      Decode::prefetch(scales_ahead_);
      scales_ahead_ += 2 * kStripFeatures;
    }
  }

  const PanelSource source_;
  const int64_t row_bytes_, blocks_, passes_;
  uint16_t* const ring_;
  const uint8_t* weights_[kStripFeatures];
  const uint8_t* scales_[kStripFeatures];
  typename Decode::Mask first_mask_, second_mask_;
  uint16_t* out_;
  const uint16_t* column_;
  const uint8_t* ahead_;
  const uint8_t* scales_ahead_ = nullptr;
  int64_t slot_, feature_, pass_, block_;
  alignas(64) uint8_t copies_[kStripFeatures][kStepBytes];
  uint8_t scale_copies_[kStripFeatures][2];
};

// One strip times kGroups tiles of 16 tokens: sums[g * sums_stride + f * kGroup].
template <class Tiles, class Decode, bool kDense, int kGroups>
void multiply_strip(Tiles& tiles, StripFiller<Decode, kDense>& filler, const uint32_t* const* x,
                    int64_t blocks, float* sums, int64_t sums_stride) {
  static_assert(kGroups <= 5);
  unroll<kGroups>([&](auto g) { tiles.template zero<g.value>(); });

  // One block, whose weights are the tile at `a`. After each product follow some rows of half
  // `half` of what is to be filled, if that is 0 or 1.
  const auto multiply_block = [&](const uint16_t* a, int64_t block,
                                  auto half) __attribute__((always_inline)) {
    constexpr int kHalf = half.value;
    tiles.template load<5>(a, 64);
    unroll<kGroups>([&](auto g) {
      tiles.template load<7>(x[g.value] + block * 16 * kGroup, 64);
      tiles.template dot<g.value, 5, 7>();
      if constexpr (kHalf >= 0)
        filler.template rows<kHalf * 8 + 8 * g.value / kGroups,
                             kHalf * 8 + 8 * (g.value + 1) / kGroups>();
    });
  };
  int64_t block = 0;
  for (; block + 1 < blocks; block += 2) {
    multiply_block(filler.column(), block, Constant<0>());
    multiply_block(filler.column() + kTileElements, block + 1, Constant<1>());
    filler.next_column();
  }
  if (block < blocks) {  // the last of an odd number, or the only one
    multiply_block(filler.column() + (block > 0 ? kTileElements : 0), block, Constant<-1>());
    filler.fill_column();
    filler.next_column();
  }
  unroll<kGroups>([&](auto g) { tiles.template store<g.value>(sums + g.value * sums_stride, 64); });
}

template <class Tiles, class Decode, bool kDense>
void multiply_strips(const PanelSource& weights, const uint32_t* x, int64_t x_stride,
                     int64_t groups, float* sums) {
  constexpr int64_t kMostGroups = 5;
  using Filler = StripFiller<Decode, kDense>;
  const int64_t blocks = (weights.k + 31) / 32;
  const int64_t padded = (weights.features + 15) / 16 * 16, sums_stride = padded * kGroup;
  if (blocks == 0)
    for (int64_t i = 0; i < groups * sums_stride; ++i) sums[i] = 0;
  if (blocks == 0 || groups == 0 || weights.features == 0) return;
  const int64_t fewest_passes = (groups + kMostGroups - 1) / kMostGroups;
  const int64_t per_pass = (groups + fewest_passes - 1) / fewest_passes;
  alignas(64) uint16_t ring[Filler::kRingElements];
  Filler filler(weights, (groups + per_pass - 1) / per_pass, ring);
  Tiles tiles;
  tiles.configure();
  for (int64_t f = 0; f < weights.features; f += kStripFeatures) {
    for (int64_t g = 0; g < groups; g += per_pass) {
      const uint32_t* tokens[kMostGroups];
      for (int64_t i = 0; i < kMostGroups; ++i) tokens[i] = x + (g + i) * x_stride;
      float* to = sums + g * sums_stride + f * kGroup;
      const auto multiply = [&](auto count) {
        multiply_strip<Tiles, Decode, kDense, count.value>(tiles, filler, tokens, blocks, to,
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

// MatmulKernels::multiply_weights.
template <class Tiles, class Decode>
void multiply_weights_with_tiles(const PanelSource& weights, const uint32_t* x, int64_t x_stride,
                                 int64_t groups, float* sums) {
  if (weights.scales)
    multiply_strips<Tiles, Decode, false>(weights, x, x_stride, groups, sums);
  else
    multiply_strips<Tiles, Decode, true>(weights, x, x_stride, groups, sums);
}

}  // namespace moxie::cpu
