#include "mxfp4/weight_layout.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace moxie::mxfp4 {
namespace {

void check_shape(int64_t n, int64_t k) {
  MOXIE_CHECK(has_weight_layout(n, k), kInvalidArgument,
              "only matrices with a multiple of 16 rows and of 32 columns can be prepacked, got ",
              n, " x ", k);
}

// Calls move(row, block) for all blocks of the rows from `first`, one tile's worth.
template <class Move>
void for_each_block(int64_t n, int64_t k, int64_t first, const Move& move) {
  const int64_t end = std::min<int64_t>(first + kTileRows, n);
  for (int64_t row = first; row < end; ++row)
    for (int64_t block = 0; block < k / kBlock; ++block) move(row, block);
}

// A tile keeps its bytes, so a copy of the tile is all that a permutation in place needs:
// permute_tile(first row, copy of the codes, copy of the scales), both as if of the whole matrix.
template <class PermuteTile>
void for_each_tile(int64_t n, int64_t k, const uint8_t* codes, const uint8_t* scales,
                   const PermuteTile& permute_tile) {
  std::vector<uint8_t> old_codes, old_scales;
  for (int64_t first = 0; first < n; first += kTileRows) {
    const int64_t rows = std::min<int64_t>(kTileRows, n - first);
    const uint8_t *tile_codes = codes + first * (k / 2), *tile_scales = scales + first * (k / 32);
    old_codes.assign(tile_codes, tile_codes + rows * (k / 2));
    old_scales.assign(tile_scales, tile_scales + rows * (k / 32));
    permute_tile(first, old_codes.data(), old_scales.data());
  }
}

}  // namespace

void prepack(int64_t n, int64_t k, uint8_t* codes, uint8_t* scales) {
  check_shape(n, k);
  for_each_tile(
      n, k, codes, scales, [&](int64_t first, const uint8_t* old_codes, const uint8_t* old_scales) {
        for_each_block(n, k, first, [&](int64_t row, int64_t block) {
          const int64_t old_block = (row - first) * (k / kBlock) + block;
          for (int t = 0; t < 4; ++t) {
            uint8_t eight[8];
            for (int i = 0; i < 8; ++i)
              eight[i] = code_at(old_codes + old_block * kBlockBytes, 8 * (i / 2) + 2 * t + i % 2);
            const uint32_t word = join_codes(eight);
            std::memcpy(codes + 4 * code_word(n, k, row, block, t), &word, 4);
          }
          scales[scale_byte(n, k, row, block)] = old_scales[old_block];
        });
      });
}

void unpack(int64_t n, int64_t k, uint8_t* codes, uint8_t* scales) {
  check_shape(n, k);
  for_each_tile(
      n, k, codes, scales, [&](int64_t first, const uint8_t* old_codes, const uint8_t* old_scales) {
        for_each_block(n, k, first, [&](int64_t row, int64_t block) {
          const int64_t new_block = row * (k / kBlock) + block;
          uint8_t* packed = codes + new_block * kBlockBytes;
          for (int t = 0; t < 4; ++t) {
            const int64_t word_idx = code_word(n, k, row, block, t) - first * (k / 8);
            uint32_t word = 0;
            std::memcpy(&word, old_codes + 4 * word_idx, 4);
            uint8_t eight[8];
            split_codes(word, eight);
            for (int pair = 0; pair < 4;
                 ++pair)  // elements 8 * pair + 2 * t and the next: one byte
              packed[4 * pair + t] =
                  static_cast<uint8_t>(eight[2 * pair] | eight[2 * pair + 1] << 4);
          }
          scales[new_block] = old_scales[scale_byte(n, k, row, block) - first * (k / kBlock)];
        });
      });
}

}  // namespace moxie::mxfp4
