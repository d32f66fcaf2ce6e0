// Products of MXFP4 weights on AMX tiles, written once for real and for emulated tiles.
//
// Work    two strips of 16 features times up to three groups of 16 tokens: their sums stay in tiles
//         over all of k. Weights go through a ring of a few tiles: while the multiplier works on
//         one column of blocks, the vector units decode the column two further on. More groups take
//         several passes, each decodes again.
// Memory  16 KiB of ring in L1; activations of a task in L2; weights once from memory, fetched two
//         strips and a little more ahead, in the order in which they lie but for spread_line
// Cost    for two tiles of weights and three of tokens: 16 x 6 cycles of multiplying, 32 blocks to
//         decode, 3 KiB from L2. What binds is that decoding and the way from L2 share the core's
//         load and store units (docs/cpu-kernels.md).
//
// `Tiles` is what AMX is, reduced to what the kernels need: eight tiles of 16 rows of 64 bytes.
//   configure(), release()           once around each use, on the thread that uses them
//   zero<T>(), load<T>(p, stride), store<T>(p, stride)    rows `stride` bytes apart, no alignment
//   load_passing<T>(p, stride)       as load, for what need not stay in L1
//   dot<C, A, B>()                   tile C += tile A times tile B, as TDPBF16PS
// After some 2000 cycles without a store from a tile the next one takes 900 (measured on Granite
// Rapids), so loops over k store a tile that nobody needs now and then.
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

namespace {  // files for an instruction set define nothing that others could define too

// A prefetch occupies one of the core's few fill buffers until its line is there, which from memory
// takes long; the processor's own prefetcher into L2 has far more. It runs ahead wherever lines of
// a page are asked for in order, but not far enough to be in time for a single place. So what a
// pointer passes line by line is fetched from eight pages in turn: every line once, within the same
// 32 KiB.
constexpr int64_t kSpreadPages = 8, kSpreadBytes = kSpreadPages * 4096;
// Where the `line`-th one of lines in a row is, of which the first is at a multiple of 8 lines.
constexpr int64_t spread_offset(int64_t line) {
  return line % kSpreadPages * 4096 + line / kSpreadPages * 64;
}
const char* spread_line(const char* p) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  return reinterpret_cast<const char*>(at / kSpreadBytes * kSpreadBytes) +
         spread_offset(static_cast<int64_t>(at % kSpreadBytes / 64));
}

// Of so many groups the next pass takes these: three, but four are two and two.
constexpr int64_t groups_of_pass(int64_t groups) {
  return groups == 4 ? 2 : groups < 3 ? groups : 3;
}

}  // namespace

inline constexpr int kStripFeatures = 16, kPairFeatures = 2 * kStripFeatures;
inline constexpr int kTileElements = kStripFeatures * 32;

// Products of one block of k: kStrips tiles of weights, rows `row_bytes` apart, times kGroups tiles
// of tokens. Strip s and group g are added to tile s * kGroups + g. after(Constant<i>()) follows
// the i-th product.
template <int kStrips, int kGroups, class Tiles, class After>
[[gnu::always_inline]] inline void multiply_tiles(Tiles& tiles, const uint16_t* first,
                                                  const uint16_t* second, int64_t row_bytes,
                                                  const uint32_t* x, int64_t x_stride,
                                                  const After& after) {
  static_assert(kStrips <= 2 && kGroups <= (kStrips == 2 ? 3 : 2));
  if constexpr (kGroups == 3) {
    // Six sums leave two tiles: what a product shares with the one before it stays, and weights
    // come twice, from L1 then.
    tiles.template load<6>(first, row_bytes);
    tiles.template load_passing<7>(x, 64);
    tiles.template dot<0, 6, 7>();
    after(Constant<0>());
    tiles.template load<6>(second, row_bytes);
    tiles.template dot<3, 6, 7>();
    after(Constant<1>());
    tiles.template load_passing<7>(x + x_stride, 64);
    tiles.template dot<4, 6, 7>();
    after(Constant<2>());
    tiles.template load<6>(first, row_bytes);
    tiles.template dot<1, 6, 7>();
    after(Constant<3>());
    tiles.template load_passing<7>(x + 2 * x_stride, 64);
    tiles.template dot<2, 6, 7>();
    after(Constant<4>());
    tiles.template load<6>(second, row_bytes);
    tiles.template dot<5, 6, 7>();
    after(Constant<5>());
  } else {
    tiles.template load<4>(first, row_bytes);
    tiles.template load_passing<6>(x, 64);
    tiles.template dot<0, 4, 6>();
    after(Constant<0>());
    if constexpr (kGroups == 2) {
      tiles.template load_passing<7>(x + x_stride, 64);
      tiles.template dot<1, 4, 7>();
      after(Constant<1>());
    }
    if constexpr (kStrips == 2) {
      tiles.template load<5>(second, row_bytes);
      tiles.template dot<kGroups, 5, 6>();
      after(Constant<kGroups>());
    }
    if constexpr (kStrips == 2 && kGroups == 2) {
      tiles.template dot<3, 5, 7>();
      after(Constant<3>());
    }
  }
}

// Decodes pairs of strips into the ring, column after column (two blocks of each feature), kAhead
// columns before they are multiplied. Of an odd number of blocks the last column repeats the last
// but one.
template <class Decode>
class StripFiller {
 public:
  static constexpr int kAhead = 2, kSlots = 4;
  static constexpr int64_t kSlotElements = int64_t{4} * kTileElements;
  static constexpr int64_t kRingElements = kSlots * kSlotElements;

  // Every pair `passes` times. REQUIRES: features % 32 == 0, k >= 64.
  StripFiller(const PanelSource& source, int64_t passes, uint16_t* ring)
      : source_(source), blocks_(source.k / 32), passes_(passes), ring_(ring) {
    const auto* codes = static_cast<const char*>(source.weights);
    end_ = codes + (source.features + source.following) * row_bytes() + kSpreadBytes;
    if (source.is_first) {
      for (int64_t at = 0; at < pair_bytes() + kSpreadBytes; at += 64)
        Decode::prefetch(spread_line(codes + at));
      for (int64_t at = 0; at < kPairFeatures * source.stride; at += 64)
        Decode::prefetch(source.scales + at);
    }
    start_pair(0);
    for (int column = 0; column < kAhead; ++column) fill_column();
  }

  // The next column to multiply: a tile for each of its two blocks, for one strip after the other.
  const uint16_t* column() const { return slot(slot_ + kSlots - kAhead); }

  // Where the next row of the column to fill comes from and goes to. A value that the caller keeps,
  // because the compiler must think that what is stored in the ring changes members.
  struct Place {
    const uint8_t* codes;
    const uint8_t* scales;
    const char* ahead;  // eight lines of what comes next, and eight more
    const char* ahead2;
    uint16_t* out;
    int64_t row_bytes, row_scales;
  };
  Place place() const {
    return {codes_ + block_ * kBlockBytes,
            scales_ + block_,
            ahead_,
            ahead2_,
            slot(slot_),
            row_bytes(),
            source_.stride};
  }

  // Fills rows [kBegin, kEnd) of the column, which come one after the other.
  template <int kBegin, int kEnd>
  [[gnu::always_inline]] static void rows(Place& at) {
#pragma GCC unroll 32
    for (int row = kBegin; row < kEnd; ++row) {
      uint16_t* out = at.out + row / kStripFeatures * 2 * kTileElements + row % kStripFeatures * 32;
      Decode::mxfp4_pair(at.codes, at.scales, out, out + kTileElements);
      at.codes += at.row_bytes;
      at.scales += at.row_scales;
      if (row % 4 == 0) Decode::prefetch(at.ahead + spread_offset(row / 4));
      if (row % 4 == 2) Decode::prefetch(at.ahead2 + spread_offset(row / 4));
    }
  }
  // A column and all that follows it.
  [[gnu::noinline]] void fill_column() {
    Place at = place();
    rows<0, kPairFeatures>(at);
    next_column();
  }

  // After all rows of a column. Behind the last one it is filled again and again, for nobody.
  void next_column() {
    ++slot_;
    if (block_ + 2 < blocks_) {
      block_ += block_ + 3 < blocks_ ? 2 : 1;
      look_ahead();
    } else if (++pass_ < passes_) {
      block_ = 0;
      look_ahead();
    } else if (feature_ + kPairFeatures < source_.features) {
      start_pair(feature_ + kPairFeatures);
    }
  }

 private:
  static constexpr int64_t kBlockBytes = 16;

  int64_t row_bytes() const { return source_.stride * kBlockBytes; }
  int64_t pair_bytes() const { return kPairFeatures * row_bytes(); }
  uint16_t* slot(uint64_t number) const { return ring_ + number % kSlots * kSlotElements; }

  void start_pair(int64_t feature) {
    feature_ = feature;
    pass_ = block_ = 0;
    codes_ = static_cast<const uint8_t*>(source_.weights) + feature_ * row_bytes();
    scales_ = source_.scales + feature_ * source_.stride;
    next_ = reinterpret_cast<const char*>(codes_) + pair_bytes() + kSpreadBytes;
    next_end_ = next_ + pair_bytes() < end_ ? next_ + pair_bytes() : end_;
    scales_ahead_ = scales_ + kPairFeatures * source_.stride;
    look_ahead();
  }

  // The next pair is fetched in one piece, while this one is read in 32 places. What is
  // about to be fetched may lie in the 32 KiB behind them, in which lines come in another order. A
  // single pass has time for 16 lines a column, several have all they need with 8.
  void look_ahead() {
    ahead_ = next_lines();
    ahead2_ = passes_ == 1 ? next_lines() : reinterpret_cast<const char*>(ring_);
    if (pass_ > 0) return;
    Decode::prefetch(scales_ahead_);
    scales_ahead_ += 64;
  }
  // Eight, or some that are in the cache when nothing is left to fetch.
  const char* next_lines() {
    constexpr uintptr_t kBytes = kSpreadPages * 64;
    if (next_ >= next_end_) return reinterpret_cast<const char*>(ring_);
    const auto at = reinterpret_cast<uintptr_t>(next_) / kBytes * kBytes;
    next_ += kBytes;
    return spread_line(reinterpret_cast<const char*>(at));
  }

  const PanelSource source_;
  const int64_t blocks_, passes_;
  uint16_t* const ring_;
  const uint8_t* codes_;  // of the pair
  const uint8_t* scales_;
  const char* ahead_;
  const char* ahead2_;
  const char* next_;  // to be fetched, up to next_end_ while this pair is multiplied
  const char* next_end_;
  const char* end_;
  const uint8_t* scales_ahead_;
  uint64_t slot_ = 0;
  int64_t feature_, pass_, block_;
};

// A pair of strips times kGroups tiles of 16 tokens: sums[g * sums_stride + f * kGroup]. Groups of
// x are x_stride apart. `unused` takes a tile.
template <class Tiles, class Decode, int kGroups>
void multiply_pair(Tiles& tiles, StripFiller<Decode>& filler, const uint32_t* x, int64_t x_stride,
                   int64_t blocks, float* sums, int64_t sums_stride, float* unused) {
  static_assert(kGroups <= 3);
  constexpr int kProducts = 2 * kGroups;
  unroll<kProducts>([&](auto c) { tiles.template zero<c.value>(); });

  // One block, whose weights are the tile at `first` and the one of the other strip. After each
  // product follow some rows of half `half` of what is to be filled, if that is 0 or 1.
  const auto multiply_block = [&](const uint16_t* first, int64_t block,
                                  typename StripFiller<Decode>::Place& place,
                                  auto half) __attribute__((always_inline)) {
    const uint16_t* const second = first + 2 * kTileElements;
    multiply_tiles<2, kGroups>(
        tiles, first, second, 64, x + block * 16 * kGroup, x_stride,
        [&](auto product) __attribute__((always_inline)) {
          constexpr int kFirst = half.value * kStripFeatures;
          if constexpr (half.value >= 0)
            filler.template rows<kFirst + kStripFeatures * product.value / kProducts,
                                 kFirst + kStripFeatures*(product.value + 1) / kProducts>(place);
        });
  };
  int64_t block = 0;
  for (; block + 1 < blocks; block += 2) {
    auto place = filler.place();
    const uint16_t* column = filler.column();
    multiply_block(column, block, place, Constant<0>());
    multiply_block(column + kTileElements, block + 1, place, Constant<1>());
    if (block % 8 == 0) tiles.template store<6>(unused, 64);
    filler.next_column();
  }
  if (block < blocks) {  // the last of an odd number
    auto place = filler.place();
    multiply_block(filler.column() + kTileElements, block, place, Constant<-1>());
    filler.fill_column();
  }
  unroll<kProducts>([&](auto c) {
    constexpr int kStrip = c.value / kGroups, kInStrip = c.value % kGroups;
    tiles.template store<c.value>(sums + kInStrip * sums_stride + kStrip * kStripFeatures * kGroup,
                                  64);
  });
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
    for (int64_t g = 0; g < groups; ++g) {
      tiles.template zero<0>();
      multiply_tiles<1, 1>(tiles, tile, tile, 64, x + g * x_stride, x_stride, [](auto) {});
      tiles.template store<0>(sums + (g * weights.features + f) * kGroup, 64);
    }
  }
  tiles.release();
}

// REQUIRES: features % 32 == 0, k > 0.
template <class Tiles, class Decode>
void multiply_strips(const PanelSource& weights, const uint32_t* x, int64_t x_stride,
                     int64_t groups, float* sums) {
  if (weights.k < 64) return multiply_only_block<Tiles, Decode>(weights, x, x_stride, groups, sums);
  using Filler = StripFiller<Decode>;
  const int64_t blocks = weights.k / 32;
  const int64_t sums_stride = weights.features * kGroup;
  alignas(64) uint16_t ring[Filler::kRingElements];
  alignas(64) float unused[kStripFeatures * kGroup];
  Filler filler(weights, (groups + 2) / 3, ring);
  Tiles tiles;
  tiles.configure();
  for (int64_t f = 0; f < weights.features; f += kPairFeatures) {
    for (int64_t g = 0; g < groups;) {
      const auto multiply = [&](auto count) {
        multiply_pair<Tiles, Decode, count.value>(tiles, filler, x + g * x_stride, x_stride, blocks,
                                                  sums + g * sums_stride + f * kGroup, sums_stride,
                                                  unused);
        g += count.value;
      };
      switch (groups_of_pass(groups - g)) {
        case 1:
          multiply(Constant<1>());
          break;
        case 2:
          multiply(Constant<2>());
          break;
        default:
          multiply(Constant<3>());
      }
    }
  }
  tiles.release();
}

}  // namespace moxie::cpu
