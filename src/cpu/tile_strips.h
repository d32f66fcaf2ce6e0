// Products on AMX tiles, written once for real and for emulated tiles.
//
// Work    strips of 16 features times up to five groups of 16 tokens (or strips of two, times rows
// of
//         one token in decode): the sums of a strip stay in tiles over all of k. Weights go through
//         a ring of a few tiles: while the multiplier works on one column of blocks, the vector
//         units decode the column two further on. More groups take several passes, each decodes
//         again.
// Memory  8 KiB of ring in L1; activations of a task in L2; weights once from memory, fetched a
// strip
//         ahead, in the order in which they lie
// Cost    for a tile of weights and five of tokens: 16 x 5 cycles of multiplying, 5 KiB from L2,
//         16 blocks to decode. L2 is the limit (docs/cpu-kernels.md).
//
// `Tiles` is what AMX is, reduced to what the kernels need: eight tiles of 16 rows, 5 and 6 with 64
// bytes a row, the others with 4 x columns.
//   configure(columns), release()    16 or 1; once around each use, on the thread that uses them
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
template <class Decode, bool kDense, int kStrips>
class StripFiller {
 public:
  static constexpr int kRows = kStrips * kStripFeatures;
  static constexpr int kAhead = 2, kSlots = 4;
  static constexpr int64_t kSlotElements = int64_t{2} * kStrips * kTileElements;
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

  // The next column to multiply: tiles [strip][block].
  const uint16_t* column() const { return column_; }

  // Fills the column, or some of its rows.
  [[gnu::noinline]] void fill_column() {
    unroll<kStrips>([&](auto strip) { rows<strip.value, 0, kStripFeatures>(); });
  }
  template <int kStrip, int kBegin, int kEnd>
  [[gnu::always_inline]] void rows() {
    uint16_t* out = out_ + kStrip * 2 * kTileElements;
#pragma GCC unroll 16
    for (int row = kBegin; row < kEnd; ++row) {
      const int i = kStrip * kStripFeatures + row;
      const uint8_t* weights = weights_[i];
      if constexpr (kDense) {
        const auto* p = reinterpret_cast<const uint16_t*>(weights);
        Decode::dense(p, first_mask_, out + row * 32);
        Decode::dense(p + 32, second_mask_, out + kTileElements + row * 32);
        Decode::prefetch(ahead_ + i * kStepBytes + 64);
      } else {
        const uint8_t* scales = scales_[i];
        Decode::mxfp4(weights, scales[0], out + row * 32);
        Decode::mxfp4(weights + 16, scales[1], out + kTileElements + row * 32);
      }
      Decode::prefetch(ahead_ + i * kStepBytes);
    }
  }

  // After all rows of a column. Behind the last one it is filled again and again, for nobody.
  void next_column() {
    set_slot(slot_ + 1);
    if (block_ + 2 < blocks_) {
      move(block_ + 3 < blocks_ ? 2 : 1);
    } else if (++pass_ < passes_) {
      aim();
    } else if (feature_ + kRows < source_.features) {
      start_strip(feature_ + kRows);
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
    for (int i = 0; i < kRows; ++i) {
      const int64_t f = feature_ + i < source_.features ? feature_ + i : source_.features - 1;
      weights_[i] = weights + f * row_bytes_;
      if constexpr (!kDense) scales_[i] = source_.scales + f * source_.stride;
    }
    block_ = 0;
    ahead_ = weights + (feature_ + kRows) * row_bytes_;
    if constexpr (!kDense) scales_ahead_ = source_.scales + (feature_ + kRows) * source_.stride;
    if (blocks_ == 1) copy_only_block();
    start_column();
  }

  // A column has two blocks, and there is but one: the other is zero.
  void copy_only_block() {
    for (int i = 0; i < kRows; ++i) {
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
    for (int i = 0; i < kRows; ++i) weights_[i] += blocks * kBlockBytes;
    if constexpr (!kDense)
      for (int i = 0; i < kRows; ++i) scales_[i] += blocks;
    block_ += 2;
    ahead_ += kRows * kStepBytes;
    start_column();
  }

  // The next strip is fetched in one piece, while this one is read in 16 or 32 places. (Behind the
  // last strip lie other weights or nothing; a prefetch of nothing does no harm.)
  void start_column() {
    if constexpr (kDense) {
      const int64_t first = block_ > 0 && block_ + 1 == blocks_ ? block_ - 1 : block_;
      const int64_t left = source_.k - first * 32;
      first_mask_ = Decode::mask(left);
      second_mask_ = Decode::mask(left - 32);
    } else {
      Decode::prefetch(scales_ahead_);
      scales_ahead_ += 2 * kRows;
    }
  }

  const PanelSource source_;
  const int64_t row_bytes_, blocks_, passes_;
  uint16_t* const ring_;
  const uint8_t* weights_[kRows];
  const uint8_t* scales_[kRows];
  typename Decode::Mask first_mask_, second_mask_;
  uint16_t* out_;
  const uint16_t* column_;
  const uint8_t* ahead_;
  const uint8_t* scales_ahead_ = nullptr;
  int64_t slot_, feature_, pass_, block_;
  alignas(64) uint8_t copies_[kRows][kStepBytes];
  uint8_t scale_copies_[kRows][2];
};

// One strip (or two) times kGroups tiles of kColumns tokens: sums[g * sums_stride + f * kColumns].
template <class Tiles, class Decode, bool kDense, int kStrips, int kGroups, int kColumns>
void multiply_strip(Tiles& tiles, StripFiller<Decode, kDense, kStrips>& filler,
                    const uint32_t* const* x, int64_t blocks, float* sums, int64_t sums_stride) {
  static_assert(kStrips * kGroups <= 5);
  constexpr int64_t kRowBytes = 4 * kColumns;
  unroll<kStrips * kGroups>([&](auto c) { tiles.template zero<c.value>(); });

  // One block, whose tiles of the first strip begin at `a`. After each product follow some rows of
  // half `half` of what is to be filled, if that is 0 or 1.
  const auto multiply_block = [&](const uint16_t* a, int64_t block,
                                  auto half) __attribute__((always_inline)) {
    constexpr int kHalf = half.value;
    unroll<kStrips>(
        [&](auto s) { tiles.template load<5 + s.value>(a + s.value * 2 * kTileElements, 64); });
    unroll<kGroups>([&](auto g) {
      tiles.template load<7>(x[g.value] + block * 16 * kColumns, kRowBytes);
      unroll<kStrips>([&](auto s) {
        tiles.template dot<s.value * kGroups + g.value, 5 + s.value, 7>();
        if constexpr (kHalf >= 0)
          filler.template rows<s.value, kHalf * 8 + 8 * g.value / kGroups,
                               kHalf * 8 + 8 * (g.value + 1) / kGroups>();
      });
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
  unroll<kStrips * kGroups>([&](auto c) {
    constexpr int kStrip = c.value / kGroups, kGroupOfC = c.value % kGroups;
    tiles.template store<c.value>(
        sums + kGroupOfC * sums_stride + kStrip * kStripFeatures * kColumns, kRowBytes);
  });
}

template <class Tiles, class Decode, bool kDense>
void multiply_strips(const PanelSource& weights, const uint32_t* x, int64_t x_stride,
                     int64_t groups, float* sums) {
  constexpr int64_t kMostGroups = 5;
  using Filler = StripFiller<Decode, kDense, 1>;
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
  tiles.configure(16);
  for (int64_t f = 0; f < weights.features; f += kStripFeatures) {
    for (int64_t g = 0; g < groups; g += per_pass) {
      const uint32_t* tokens[kMostGroups];
      for (int64_t i = 0; i < kMostGroups; ++i) tokens[i] = x + (g + i) * x_stride;
      float* to = sums + g * sums_stride + f * kGroup;
      switch (groups - g < per_pass ? groups - g : per_pass) {
        case 1:
          multiply_strip<Tiles, Decode, kDense, 1, 1, 16>(tiles, filler, tokens, blocks, to, 0);
          break;
        case 2:
          multiply_strip<Tiles, Decode, kDense, 1, 2, 16>(tiles, filler, tokens, blocks, to,
                                                          sums_stride);
          break;
        case 3:
          multiply_strip<Tiles, Decode, kDense, 1, 3, 16>(tiles, filler, tokens, blocks, to,
                                                          sums_stride);
          break;
        case 4:
          multiply_strip<Tiles, Decode, kDense, 1, 4, 16>(tiles, filler, tokens, blocks, to,
                                                          sums_stride);
          break;
        default:
          multiply_strip<Tiles, Decode, kDense, 1, 5, 16>(tiles, filler, tokens, blocks, to,
                                                          sums_stride);
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

template <class Tiles, class Decode, int kStrips, int kRows>
void dot_strips(const PanelSource& weights, const void* const* x, float* z, int64_t z_stride) {
  using Filler = StripFiller<Decode, false, kStrips>;
  constexpr int64_t kFeatures = Filler::kRows;
  alignas(64) uint16_t ring[Filler::kRingElements];
  alignas(64) float sums[kRows][kFeatures];
  const uint32_t* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const uint32_t*>(x[r]);
  Filler filler(weights, 1, ring);
  Tiles tiles;
  tiles.configure(1);
  for (int64_t f = 0; f < weights.features; f += kFeatures) {
    multiply_strip<Tiles, Decode, false, kStrips, kRows, 1>(tiles, filler, rows, weights.k / 32,
                                                            sums[0], kFeatures);
    const int64_t count = weights.features - f < kFeatures ? weights.features - f : kFeatures;
    for (int r = 0; r < kRows; ++r)
      for (int64_t i = 0; i < count; ++i) z[r * z_stride + f + i] = sums[r][i];
  }
  tiles.release();
}

// MatmulKernels::dot_mxfp4; x[r] is a bf16 row in the order that Decode has. Tiles are one token
// wide: the multiplier is hardly used, but it leaves the vector units to the decoding.
template <class Tiles, class Decode>
void dot_mxfp4_with_tiles(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                          const void* const* x, int rows, float* z, int64_t z_stride) {
  PanelSource weights;
  weights.weights = codes;
  weights.scales = scales;
  weights.stride = k / 32;
  weights.features = n;
  weights.k = k;
  if (n == 0 || k == 0) {
    for (int r = 0; r < rows; ++r)
      for (int64_t f = 0; f < n; ++f) z[r * z_stride + f] = 0;
    return;
  }
  switch (rows) {
    case 1:
      return dot_strips<Tiles, Decode, 2, 1>(weights, x, z, z_stride);
    case 2:
      return dot_strips<Tiles, Decode, 2, 2>(weights, x, z, z_stride);
    case 3:
      return dot_strips<Tiles, Decode, 1, 3>(weights, x, z, z_stride);
    default:
      return dot_strips<Tiles, Decode, 1, 4>(weights, x, z, z_stride);
  }
}

}  // namespace moxie::cpu
