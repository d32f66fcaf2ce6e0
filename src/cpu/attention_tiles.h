// Prefill attention on AMX tiles, written once for real and for emulated tiles (tile_strips.h says
// what a `Tiles` does) and over a vector class. Included by attention_amx*.cc; local to the
// including file. Needs head_dim % 32 == 0.
//
// Work    32 query rows (positions x heads) by 64 keys at a time: scores in four tiles of sums for
//         each 32 keys, then the online softmax of attention_kernel.h, then 32 dimensions of the
//         result
// Exact   products of bf16 are; a weight enters as the sum of two bf16 numbers, off by at most
// 2^-18
//         of itself. Subnormal bf16 count as zero.
// Masks   a hidden key's weight is 0, so its value must be a number: infinities and NaN are packed
// as
//         0 and added apart, for the rows that see them
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/attention_kernel.h"

namespace moxie::cpu {
namespace {

// S adds to a vector class:
//   split(x, high, low)          kWidth floats as bf16 pairs: high + low is x to 2^-18 of itself
//   interleave(a, b, out)        32 elements of two values to 32 pairs; true if all are numbers
template <class S, class Tiles>
struct TiledAttention {
  using Float = typename S::Float;
  using Rows = Attention<S>;
  static constexpr int W = S::kWidth;
  static constexpr int kBlock = kAttentionBlock;
  static constexpr int kRows = 32;
  static constexpr int64_t kScoreBytes = kBlock * 4, kWeightBytes = kBlock * 2;

  // scores[32, 64] = q[32, head_dim] . keys
  static void multiply_keys(Tiles& tiles, const bf16* q, int head_dim, const uint32_t* keys,
                            float* scores) {
    const int64_t q_bytes = int64_t{head_dim} * 2;
    for (int key = 0; key < kBlock; key += 32) {
      tiles.template zero<0>();
      tiles.template zero<1>();
      tiles.template zero<2>();
      tiles.template zero<3>();
      for (int d = 0; d < head_dim; d += 32) {
        const uint32_t* pairs = keys + d / 2 * kBlock + key;
        tiles.template load<4>(q + d, q_bytes);
        tiles.template load<5>(q + 16 * head_dim + d, q_bytes);
        tiles.template load<6>(pairs, kScoreBytes);
        tiles.template load<7>(pairs + 16, kScoreBytes);
        tiles.template dot<0, 4, 6>();
        tiles.template dot<1, 4, 7>();
        tiles.template dot<2, 5, 6>();
        tiles.template dot<3, 5, 7>();
      }
      tiles.template store<0>(scores + key, kScoreBytes);
      tiles.template store<1>(scores + key + 16, kScoreBytes);
      tiles.template store<2>(scores + 16 * kBlock + key, kScoreBytes);
      tiles.template store<3>(scores + 16 * kBlock + key + 16, kScoreBytes);
    }
  }

  // sums[32, head_dim] += (high + low)[32, 64] . values
  static void multiply_values(Tiles& tiles, const bf16* high, const bf16* low,
                              const uint32_t* values, int head_dim, float* sums) {
    const int64_t row_bytes = int64_t{head_dim} * 4;
    for (int d = 0; d < head_dim; d += 32) {
      float* lower = sums + 16 * head_dim + d;
      tiles.template load<0>(sums + d, row_bytes);
      tiles.template load<1>(sums + d + 16, row_bytes);
      tiles.template load<2>(lower, row_bytes);
      tiles.template load<3>(lower + 16, row_bytes);
      for (int key = 0; key < kBlock; key += 32) {
        const uint32_t* pairs = values + key / 2 * head_dim + d;
        tiles.template load<6>(pairs, row_bytes);
        tiles.template load<7>(pairs + 16, row_bytes);
        for (const bf16* part : {high, low}) {
          tiles.template load<4>(part + key, kWeightBytes);
          tiles.template load<5>(part + 16 * kBlock + key, kWeightBytes);
          tiles.template dot<0, 4, 6>();
          tiles.template dot<1, 4, 7>();
          tiles.template dot<2, 5, 6>();
          tiles.template dot<3, 5, 7>();
        }
      }
      tiles.template store<0>(sums + d, row_bytes);
      tiles.template store<1>(sums + d + 16, row_bytes);
      tiles.template store<2>(lower, row_bytes);
      tiles.template store<3>(lower + 16, row_bytes);
    }
  }

  static bool is_number(bf16 x) { return (x.bits & 0x7f80u) != 0x7f80u; }

  static void attend(const AttentionTile& tile) {
    const int head_dim = tile.head_dim, group = tile.group;
    const int num_rows = tile.num_positions * group;
    const int padded = (num_rows + kRows - 1) / kRows * kRows;
    const TiledScratch parts = tiled_scratch(tile.num_positions, group, head_dim);
    const auto at = [&](int64_t offset) { return tile.scratch + offset; };
    bf16* zeros = reinterpret_cast<bf16*>(at(parts.zeros));
    const bf16** key_rows = reinterpret_cast<const bf16**>(at(parts.pointers));
    const bf16** value_rows = key_rows + kBlock;
    uint32_t* keys = reinterpret_cast<uint32_t*>(at(parts.keys));
    uint32_t* values = reinterpret_cast<uint32_t*>(at(parts.values));
    float* scores = reinterpret_cast<float*>(at(parts.scores));
    bf16* high = reinterpret_cast<bf16*>(at(parts.high));
    bf16* low = reinterpret_cast<bf16*>(at(parts.low));
    bf16* q = reinterpret_cast<bf16*>(at(parts.q));
    float* sums = reinterpret_cast<float*>(at(parts.sums));
    float* maxima = reinterpret_cast<float*>(at(parts.maxima));
    float* totals = reinterpret_cast<float*>(at(parts.totals));

    std::memset(static_cast<void*>(zeros), 0, static_cast<size_t>(head_dim) * sizeof(bf16));
    std::memset(static_cast<void*>(q), 0, static_cast<size_t>(padded * head_dim) * sizeof(bf16));
    std::memset(sums, 0, static_cast<size_t>(padded * head_dim) * sizeof(float));
    std::memset(totals, 0, static_cast<size_t>(padded * W) * sizeof(float));
    for (int p = 0; p < tile.num_positions; ++p) {
      std::memcpy(q + p * group * head_dim, tile.q + p * tile.q_stride,
                  static_cast<size_t>(group * head_dim) * sizeof(bf16));
    }
    for (int row = 0; row < num_rows; ++row) {
      maxima[row] = first_maximum(tile.sinks[row % group]);
      totals[row * W] = first_total(tile.sinks[row % group]);
    }

    Tiles tiles;
    tiles.configure();
    const int64_t tile_begin = keys_of(tile, tile.first_position).begin;
    const int64_t tile_end = keys_of(tile, tile.first_position + tile.num_positions - 1).end;
    for (int64_t block = tile_begin / kBlock * kBlock; block < tile_end; block += kBlock) {
      const int from = block < tile_begin ? static_cast<int>(tile_begin - block) : 0;
      const int to = block + kBlock > tile_end ? static_cast<int>(tile_end - block) : kBlock;
      int64_t slot = (block + from) % tile.capacity;
      for (int i = 0; i < kBlock; ++i) {
        key_rows[i] = value_rows[i] = zeros;
        if (i < from || i >= to) continue;
        key_rows[i] = tile.k + slot * head_dim;
        value_rows[i] = tile.v + slot * head_dim;
        if (++slot == tile.capacity) slot = 0;
      }
      Rows::transpose_keys(key_rows, 0, kBlock, head_dim, keys);
      bool all_numbers = true;
      for (int key = 0; key < kBlock; key += 2) {
        for (int d = 0; d < head_dim; d += 32) {
          const bool numbers = S::interleave(value_rows[key] + d, value_rows[key + 1] + d,
                                             values + key / 2 * head_dim + d);
          all_numbers = all_numbers && numbers;
        }
      }
      if (!all_numbers) clear_others(values, head_dim);

      for (int first = 0; first < num_rows; first += kRows) {
        const int last = first + kRows < num_rows ? first + kRows : num_rows;
        const int64_t rows_begin = keys_of(tile, tile.first_position + first / group).begin;
        const int64_t rows_end = keys_of(tile, tile.first_position + (last - 1) / group).end;
        if (rows_begin >= block + kBlock || rows_end <= block) continue;
        multiply_keys(tiles, q + first * head_dim, head_dim, keys, scores);
        for (int row = first; row < first + kRows; ++row) {
          int begin = 0, end = 0;
          if (row < num_rows) {
            const KeySpan span = keys_of(tile, tile.first_position + row / group);
            begin = span.begin > block ? clamp(span.begin - block) : 0;
            end = span.end > block ? clamp(span.end - block) : 0;
          }
          weigh_row(tile, row, begin, end, scores + (row - first) * kBlock,
                    high + (row - first) * kBlock, low + (row - first) * kBlock,
                    sums + row * head_dim, maxima, totals);
          if (all_numbers) continue;
          for (int key = begin; key < end; ++key) {
            for (int d = 0; d < head_dim; ++d) {
              if (is_number(value_rows[key][d])) continue;
              sums[row * head_dim + d] +=
                  scores[(row - first) * kBlock + key] * to_float(value_rows[key][d]);
            }
          }
        }
        multiply_values(tiles, high, low, values, head_dim, sums + first * head_dim);
      }
    }
    tiles.release();

    for (int row = 0; row < num_rows; ++row) {
      const Float inverse = S::set1(1.0f / S::reduce_add(S::load(totals + row * W)));
      bf16* out = tile.out + row / group * tile.out_stride + row % group * head_dim;
      for (int d = 0; d < head_dim; d += W) {
        const Float x = S::mul(S::load(sums + row * head_dim + d), inverse);
        S::store_bf16(out + d, S::round_bf16_any_nan(x));
      }
    }
  }

  static int clamp(int64_t key) { return key < kBlock ? static_cast<int>(key) : kBlock; }

  // One row's scores of keys [begin, end) to weights in two parts, and its sums to the new maximum.
  static void weigh_row(const AttentionTile& tile, int row, int begin, int end, float* scores,
                        bf16* high, bf16* low, float* sums, float* maxima, float* totals) {
    if (begin >= end) {
      std::memset(static_cast<void*>(high), 0, kWeightBytes);
      std::memset(static_cast<void*>(low), 0, kWeightBytes);
      return;
    }
    const float factor = Rows::softmax_row(scores, begin, end, tile.sm_scale * kLog2E, maxima[row],
                                           totals + row * W);
    for (int v = 0; v < kBlock / W; ++v) {
      const bool seen = v * W < end && (v + 1) * W > begin;
      S::split(seen ? S::load(scores + v * W) : S::zero(), high + v * W, low + v * W);
    }
    if (factor == 1.0f) return;
    for (int d = 0; d < tile.head_dim; d += W)
      S::store(sums + d, S::mul(S::load(sums + d), S::set1(factor)));
  }

  // Infinities and NaN in packed values become 0.
  static void clear_others(uint32_t* values, int head_dim) {
    for (int i = 0; i < kBlock / 2 * head_dim; ++i) {
      if ((values[i] & 0x7f80u) == 0x7f80u) values[i] &= 0xffff0000u;
      if ((values[i] & 0x7f800000u) == 0x7f800000u) values[i] &= 0xffffu;
    }
  }
};

}  // namespace
}  // namespace moxie::cpu
