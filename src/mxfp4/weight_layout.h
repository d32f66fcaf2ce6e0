// The order in which GPU kernels keep an MXFP4 matrix [n, k]: every thread of a tensor core
// instruction finds its operands in consecutive bytes. docs/weight-layout.md draws it.
//
// Codes and scales stay two arrays of the checkpoint's sizes, each permuted within its own bytes.
// Nothing is padded. 64 rows (a tile) keep the bytes they had, so a matrix is permuted in place
// tile by tile.
//
//   matrix  tiles of 64 rows; the last has n % 64 when that is not 0
//   tile    panels of 576 of k; the last has k % 576 when that is not 0
//   panel   strips of 16 rows
//   strip   pairs of blocks, 64 of k: 512 bytes of codes, 32 of scales; a last block without a
//           partner takes half of that
//   pair    codes: 16 bytes for each lane = 4 * (row % 8) + t of a warp; scales: 4 bytes for each
//           row % 8; of both, in this order: first block rows 0 .. 7 and 8 .. 15, second block the
//           same
//   word    the 8 codes of one row and block with (element % 8) / 2 == t, in the bits below
//
// Lane and t are those of operand A in mma.sync m16n8k16 and wgmma m64nNk16.
#pragma once

#include <cstdint>

#include "base/bf16.h"
#include "mxfp4/block.h"

namespace moxie::mxfp4 {

inline constexpr int kTileRows = 64;
inline constexpr int kStripRows = 16;
inline constexpr int kPanelBlocks = 18;
inline constexpr int kPairBlocks = 2;

// A matrix that can be kept in this order.
MOXIE_HOST_DEVICE constexpr bool has_weight_layout(int64_t n, int64_t k) {
  return n >= 0 && k >= 0 && n % kStripRows == 0 && k % kBlock == 0;
}

// Where the part of one strip in one panel begins, in elements of the permuted order (bytes of
// codes are half of it, bytes of scales a 32nd), and how many blocks deep it is.
struct StripPanel {
  int64_t begin = 0;
  int blocks = 0;
};

// Of `strip` (rows 16 * strip ..) and `panel` (k from 576 * panel). REQUIRES has_weight_layout and
// both within the matrix.
MOXIE_HOST_DEVICE constexpr StripPanel strip_panel(int64_t n, int64_t k, int64_t strip,
                                                   int64_t panel) {
  constexpr int64_t kTileStrips = kTileRows / kStripRows;
  const int64_t tile = strip / kTileStrips;
  const int64_t strips_left = n / kStripRows - tile * kTileStrips;
  const int64_t strips = strips_left < kTileStrips ? strips_left : kTileStrips;
  const int64_t blocks_left = k / kBlock - panel * kPanelBlocks;
  const int64_t blocks = blocks_left < kPanelBlocks ? blocks_left : kPanelBlocks;
  const int64_t strip_blocks =  // of 16 rows, before this one
      tile * kTileStrips * (k / kBlock) + panel * kPanelBlocks * strips +
      (strip % kTileStrips) * blocks;
  return {strip_blocks * kStripRows * kBlock, static_cast<int>(blocks)};
}

// The 32-bit word, counted from the beginning of the codes, with the codes of `row` for elements
// 2t, 2t + 1, 2t + 8, 2t + 9, 2t + 16, 2t + 17, 2t + 24, 2t + 25 of `block`; 0 <= t < 4.
MOXIE_HOST_DEVICE constexpr int64_t code_word(int64_t n, int64_t k, int64_t row, int64_t block,
                                              int t) {
  const StripPanel part = strip_panel(n, k, row / kStripRows, block / kPanelBlocks);
  const int b = static_cast<int>(block % kPanelBlocks), first = b - b % kPairBlocks;
  const int blocks = part.blocks - first < kPairBlocks ? 1 : kPairBlocks;  // of this pair
  const int lane = static_cast<int>(row % 8) * 4 + t, upper = static_cast<int>(row / 8 % 2);
  constexpr int kWordsOfABlock = kStripRows * kBlockBytes / 4;
  return part.begin / 8 + first * kWordsOfABlock + lane * 2 * blocks + (b - first) * 2 + upper;
}

// The byte, counted from the beginning of the scales, with the scale of `row` and `block`.
MOXIE_HOST_DEVICE constexpr int64_t scale_byte(int64_t n, int64_t k, int64_t row, int64_t block) {
  const StripPanel part = strip_panel(n, k, row / kStripRows, block / kPanelBlocks);
  const int b = static_cast<int>(block % kPanelBlocks), first = b - b % kPairBlocks;
  const int blocks = part.blocks - first < kPairBlocks ? 1 : kPairBlocks;
  const int g = static_cast<int>(row % 8), upper = static_cast<int>(row / 8 % 2);
  return part.begin / kBlock + first * kStripRows + g * 2 * blocks + (b - first) * 2 + upper;
}

// Where the four bits of element 8 * pair + 2 * t + odd lie in its word: magnitude bits 0, 1, 2
// and the sign. Three pairs come to the bits of a bf16 that hold a sign and value * 2^-126 (15 and
// 8 .. 6) by one shift and one mask, the fourth by two masks and a shift:
//   w << 6    w << 2    w rotated right by 4    w and, its bits 14 and 30 only, w >> 8
struct CodeBits {
  int magnitude[3];
  int sign;
};
MOXIE_HOST_DEVICE constexpr CodeBits code_bits(int pair, int odd) {
  const int half = 16 * odd;
  switch (pair) {
    case 0:
      return {{half + 0, half + 1, half + 2}, half + 9};
    case 1:
      return {{half + 4, half + 5, half + 6}, half + 13};
    case 2:
      return {{half + 10, half + 11, half + 12}, (half + 19) % 32};
    default:
      return {{half + 14, half + 7, half + 8}, half + 15};
  }
}

// The word of eight codes, codes[2 * pair + odd], and back.
MOXIE_HOST_DEVICE constexpr uint32_t join_codes(const uint8_t* codes) {
  uint32_t word = 0;
  for (int i = 0; i < 8; ++i) {
    const CodeBits bits = code_bits(i / 2, i % 2);
    for (int j = 0; j < 3; ++j)
      word |= static_cast<uint32_t>((codes[i] >> j) & 1) << bits.magnitude[j];
    word |= static_cast<uint32_t>((codes[i] >> 3) & 1) << bits.sign;
  }
  return word;
}
MOXIE_HOST_DEVICE constexpr void split_codes(uint32_t word, uint8_t* codes) {
  for (int i = 0; i < 8; ++i) {
    const CodeBits bits = code_bits(i / 2, i % 2);
    uint32_t code = ((word >> bits.sign) & 1u) << 3;
    for (int j = 0; j < 3; ++j) code |= ((word >> bits.magnitude[j]) & 1u) << j;
    codes[i] = static_cast<uint8_t>(code);
  }
}

// Permutes a matrix in place from the checkpoint's order (block.h) to this one, and back. One tile
// of codes is copied at a time. Throws Error(kInvalidArgument) unless has_weight_layout(n, k).
void prepack(int64_t n, int64_t k, uint8_t* codes, uint8_t* scales);
void unpack(int64_t n, int64_t k, uint8_t* codes, uint8_t* scales);

}  // namespace moxie::mxfp4
