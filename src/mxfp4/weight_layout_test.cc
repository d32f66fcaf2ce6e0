#include "mxfp4/weight_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "moxie/error.h"

namespace moxie::mxfp4 {
namespace {

// Strips, tiles, pairs and panels: one, whole ones, and every kind of remainder; both products.
constexpr struct {
  int64_t n, k;
} kShapes[] = {{16, 32},   {16, 64},   {32, 96},   {48, 160},   {64, 192},    {80, 224},
               {96, 544},  {112, 576}, {128, 608}, {144, 1120}, {192, 1152},  {208, 1184},
               {16, 2880}, {32, 2976}, {272, 64},  {64, 8192},  {2880, 2880}, {5760, 2880}};

TEST(WeightLayout, EveryWordAndEveryScaleHasOnePlaceInItsTile) {
  for (const auto [n, k] : kShapes) {
    std::vector<int> words(static_cast<size_t>(n * k / 8)), scales(static_cast<size_t>(n * k / 32));
    for (int64_t row = 0; row < n; ++row) {
      const int64_t tile_begin = row / kTileRows * kTileRows;
      const int64_t tile_end = std::min<int64_t>(tile_begin + kTileRows, n);
      for (int64_t block = 0; block < k / kBlock; ++block) {
        for (int t = 0; t < 4; ++t) {
          const int64_t word = code_word(n, k, row, block, t);
          ASSERT_GE(word, tile_begin * k / 8) << n << "x" << k;
          ASSERT_LT(word, tile_end * k / 8) << n << "x" << k;
          ASSERT_EQ(words[static_cast<size_t>(word)]++, 0) << n << "x" << k << " row " << row;
        }
        const int64_t scale = scale_byte(n, k, row, block);
        ASSERT_GE(scale, tile_begin * k / 32) << n << "x" << k;
        ASSERT_LT(scale, tile_end * k / 32) << n << "x" << k;
        ASSERT_EQ(scales[static_cast<size_t>(scale)]++, 0) << n << "x" << k << " row " << row;
      }
    }
  }
}

TEST(WeightLayout, UnpackGivesBackTheBytesThatPrepackTook) {
  std::mt19937 random(7);
  for (const auto [n, k] : kShapes) {
    std::vector<uint8_t> codes(static_cast<size_t>(n * k / 2));
    std::vector<uint8_t> scales(static_cast<size_t>(n * k / 32));
    for (uint8_t& byte : codes) byte = static_cast<uint8_t>(random());
    for (uint8_t& byte : scales) byte = static_cast<uint8_t>(random());
    const std::vector<uint8_t> want_codes = codes, want_scales = scales;
    prepack(n, k, codes.data(), scales.data());
    EXPECT_NE(codes, want_codes) << n << "x" << k;
    unpack(n, k, codes.data(), scales.data());
    ASSERT_EQ(codes, want_codes) << n << "x" << k;
    ASSERT_EQ(scales, want_scales) << n << "x" << k;
  }
}

TEST(WeightLayout, APieceOfAPanelIsContiguousInTheOrderOfTheLanes) {
  constexpr int64_t kN = 144, kK = 1696;  // 2 tiles and a strip; 2 panels, 8 pairs and a block
  for (int64_t strip = 0; strip < kN / kStripRows; ++strip)
    for (int64_t panel = 0; panel * kPanelBlocks < kK / kBlock; ++panel) {
      const StripPanel part = strip_panel(kN, kK, strip, panel);
      ASSERT_EQ(part.blocks, panel < 2 ? kPanelBlocks : 17);
      int64_t word = part.begin / 8, scale = part.begin / 32;
      for (int first = 0; first < part.blocks; first += 2) {
        const int blocks = std::min(2, part.blocks - first);
        for (int lane = 0; lane < 32; ++lane)
          for (int b = first; b < first + blocks; ++b)
            for (int upper = 0; upper < 2; ++upper) {
              const int64_t row = strip * 16 + upper * 8 + lane / 4,
                            block = panel * kPanelBlocks + b;
              ASSERT_EQ(code_word(kN, kK, row, block, lane % 4), word++);
            }
        for (int g = 0; g < 8; ++g)
          for (int b = first; b < first + blocks; ++b)
            for (int upper = 0; upper < 2; ++upper)
              ASSERT_EQ(scale_byte(kN, kK, strip * 16 + upper * 8 + g, panel * kPanelBlocks + b),
                        scale++);
      }
    }
}

TEST(WeightLayout, TheBitsOfAWordAreAPermutation) {
  uint32_t seen = 0;
  for (int pair = 0; pair < 4; ++pair)
    for (int odd = 0; odd < 2; ++odd) {
      const CodeBits bits = code_bits(pair, odd);
      for (const int bit : {bits.magnitude[0], bits.magnitude[1], bits.magnitude[2], bits.sign}) {
        EXPECT_EQ(seen >> bit & 1, 0u) << "bit " << bit;
        seen |= 1u << bit;
      }
    }
  EXPECT_EQ(seen, 0xffffffffu);
  for (int place = 0; place < 8; ++place)
    for (uint8_t code = 0; code < 16; ++code) {
      uint8_t codes[8] = {}, back[8];
      codes[place] = code;
      split_codes(join_codes(codes), back);
      EXPECT_EQ(std::memcmp(codes, back, 8), 0) << "place " << place << " code " << int(code);
    }
}

// The decoder this order is made for, in the words of the header's comment.
TEST(WeightLayout, AShiftAndAMaskMakeBf16OfEveryCodeInEveryPlace) {
  for (int place = 0; place < 8; ++place)
    for (uint8_t code = 0; code < 16; ++code) {
      uint8_t codes[8];  // neighbours must not show through the masks
      std::fill(codes, codes + 8, static_cast<uint8_t>(15 - code));
      codes[place] = code;
      const uint32_t w = join_codes(codes);
      const uint32_t pairs[4] = {(w << 6) & 0x81c081c0u, (w << 2) & 0x81c081c0u,
                                 std::rotr(w, 4) & 0x81c081c0u,
                                 (w & 0x81808180u) | ((w >> 8) & 0x00400040u)};
      for (int i = 0; i < 8; ++i) {
        const bf16 got{static_cast<uint16_t>(pairs[i / 2] >> (16 * (i % 2)))};
        const float want = std::ldexp(e2m1_to_float(codes[i]), -126);
        EXPECT_EQ(to_float(got), want) << "place " << i << " code " << int(codes[i]);
        EXPECT_EQ(std::signbit(to_float(got)), std::signbit(want)) << "place " << i;
      }
    }
}

// A warp's mma.sync m16n8k16 as the PTX ISA defines its fragments, over a whole strip: lane 4 * g +
// t holds of A rows g and g + 8, of B column g, k 2t, 2t + 1 and 8 further.
TEST(WeightLayout, TheWordsOfALaneAreTheOperandsOfItsWarp) {
  constexpr int64_t kN = 48, kK = 608;  // a panel, and half a pair in the next
  std::mt19937 random(11);
  std::vector<uint8_t> codes(kN * kK / 2), scales(kN * kK / 32, 127);
  for (uint8_t& byte : codes) byte = static_cast<uint8_t>(random());
  std::vector<float> x(kK);
  for (float& value : x) value = static_cast<float>(static_cast<int>(random() % 65) - 32);
  std::vector<float> want(kN);
  for (int64_t row = 0; row < kN; ++row)
    for (int64_t i = 0; i < kK; ++i) {
      const uint8_t* block = codes.data() + (row * kK + i) / 32 * 16;
      want[static_cast<size_t>(row)] +=
          e2m1_to_float(code_at(block, static_cast<int>(i % 32))) * x[static_cast<size_t>(i)];
    }
  prepack(kN, kK, codes.data(), scales.data());

  const auto code_of_word = [&](int64_t row, int64_t block, int t, int place) {
    uint32_t word = 0;
    uint8_t eight[8];
    std::memcpy(&word, codes.data() + 4 * code_word(kN, kK, row, block, t), 4);
    split_codes(word, eight);
    return e2m1_to_float(eight[place]);
  };
  for (int64_t strip = 0; strip < kN / kStripRows; ++strip)
    for (int g = 0; g < 8; ++g)
      for (const int upper : {0, 1}) {
        const int64_t row = strip * kStripRows + g + 8 * upper;
        float got = 0;  // of small integers and halves, so exact; four lanes add up to a row
        for (int64_t block = 0; block < kK / kBlock; ++block)
          for (int half = 0; half < 2; ++half)  // m16k16 operands of a block
            for (int t = 0; t < 4; ++t)
              for (int i = 0; i < 4; ++i) {  // a0 (or a1) low and high, a2 (or a3) low and high
                const int64_t column = 2 * t + i % 2 + 8 * (i / 2);
                got += code_of_word(row, block, t, 4 * half + i) *
                       x[static_cast<size_t>(block * 32 + 16 * half + column)];
              }
        EXPECT_EQ(got, want[static_cast<size_t>(row)]) << "row " << row;
      }
}

TEST(WeightLayout, RefusesOtherShapesAndAcceptsEmptyOnes) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{8, 32}, {16, 16}, {-16, 32}, {16, 33}})
    EXPECT_THROW(prepack(n, k, nullptr, nullptr), Error) << n << "x" << k;
  EXPECT_THROW(unpack(15, 32, nullptr, nullptr), Error);
  EXPECT_NO_THROW(prepack(0, 64, nullptr, nullptr));
  EXPECT_NO_THROW(unpack(64, 0, nullptr, nullptr));
}

}  // namespace
}  // namespace moxie::mxfp4
