// The algorithm of attention_tile.h as a template over a vector class (simd_portable.h). Included
// by attention_<instruction set>.cc; local to the including file.
//
// Per block of 64 keys: transpose the keys, as pairs of bf16, to [head_dim / 2, keys]; then for
// each position of the tile, with the rows of its heads in registers:
//   scores   rows x keys: lanes are keys, the chain of sums runs over head_dim
//   weights  online softmax in base 2: scores are scaled by sm_scale * log2(e)
//   sums     rows x head_dim: lanes are dimensions, the chain runs over exactly the keys this
//            position sees. A value is read as pairs, so the sums of 2 W dimensions lie as W even
//            ones and then W odd ones, until they are stored.
// Lanes of keys that a position must not see are replaced, never multiplied by zero, so what lies
// in their slots does not matter.
#pragma once

#include <cstdint>

#include "cpu/attention_tile.h"

// Loops over arrays of registers: these stay in registers only when the loops are unrolled.
#define MOXIE_UNROLL _Pragma("GCC unroll 16")

namespace moxie::cpu {
namespace {

constexpr float kLog2E = 0x1.715476p0f;

// 2^x for x <= 0 to 2^-21 relative; 0 below 2^-126; NaN stays. Minimax polynomial of degree 5 on
// [-1/2, 1/2], itself off by 2^-23.3.
template <class S>
typename S::Float exp2_approx(typename S::Float x) {
  typename S::Float n, f;
  S::exp2_parts(x, n, f);
  typename S::Float p = S::set1(0x1.5bba14p-10f);
  p = S::mul_add(p, f, S::set1(0x1.3cea88p-7f));
  p = S::mul_add(p, f, S::set1(0x1.c6b752p-5f));
  p = S::mul_add(p, f, S::set1(0x1.ebf9bcp-3f));
  p = S::mul_add(p, f, S::set1(0x1.62e42ap-1f));
  p = S::mul_add(p, f, S::set1(1.0f));
  return S::scale_exp2(p, n, x);
}

template <class S>
float exp2_approx_one(float x) {
  float lanes[S::kWidth];
  S::store(lanes, exp2_approx<S>(S::set1(x)));
  return lanes[0];
}

constexpr float kLowest = -0x1.fffffep127f;

// The sink opens the softmax: a maximum, as base-2 scores count, with a total of 1. At -infinity
// there is nothing yet; +infinity becomes the largest number, which takes all weight too.
float first_maximum(float sink) {
  const float scaled = sink * kLog2E;
  if (scaled < kLowest) return kLowest;
  return scaled > -kLowest ? -kLowest : scaled;
}
float first_total(float sink) { return sink * kLog2E < kLowest ? 0.0f : 1.0f; }

struct KeySpan {
  int64_t begin, end;
};

// Which keys a position of the tile sees.
KeySpan keys_of(const AttentionTile& tile, int64_t position) {
  const int64_t begin = tile.window > 0 && position >= tile.window ? position - tile.window + 1 : 0;
  return {begin > tile.key_begin ? begin : tile.key_begin,
          position + 1 < tile.key_end ? position + 1 : tile.key_end};
}

template <class S>
struct Attention {
  using Float = typename S::Float;
  using Bits = typename S::Bits;
  static constexpr int W = S::kWidth;
  static constexpr int kBlock = kAttentionBlock;
  static constexpr int kVectors = kBlock / W;  // of keys in a block

  // Memory is read one block ahead of the arithmetic: the loops over a block's scores and values
  // prefetch the next block, line by line. A step of zero asks for the same line again: nothing.
  struct Ahead {
    const char* keys;
    int64_t key_step_bytes;  // from one step of the scores to the next
    int64_t value_elements;  // from a value to the one a block later

    void prefetch_keys() {
      S::prefetch(keys);
      if constexpr (kKeyBytes > 64) S::prefetch(keys + key_step_bytes / 2);
      keys += key_step_bytes;
    }
  };
  // head_dim / 2 * kVectors / 2 steps see 2 * head_dim * kBlock bytes.
  static constexpr int64_t kKeyBytes = 8 * kBlock / kVectors;

  // scores[r, v * W ..] = q[r] . keys of vectors first .. last - 1, for R rows. q: float32, or
  // pairs of bf16 where S multiplies pairs.
  template <int R, int V>
  static void score_vectors(const float* q_floats, const bf16* q_pairs, int head_dim,
                            const uint32_t* keys, int vector, float* scores, Ahead& ahead) {
    Float sum[R][V];
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) {
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) sum[r][v] = S::zero();
    }
    const uint32_t* column = keys + vector * W;
    for (int pair = 0; pair < head_dim / 2; ++pair, column += kBlock) {
      ahead.prefetch_keys();
      if constexpr (S::kPairDot) {
        Bits key[V];
        MOXIE_UNROLL
        for (int v = 0; v < V; ++v) key[v] = S::load_bits(column + v * W);
        MOXIE_UNROLL
        for (int r = 0; r < R; ++r) {
          const Bits q = S::broadcast_pair(q_pairs + r * head_dim + 2 * pair);
          MOXIE_UNROLL
          for (int v = 0; v < V; ++v) sum[r][v] = S::dot_pairs(sum[r][v], key[v], q);
        }
      } else {
        Float even[V], odd[V];
        MOXIE_UNROLL
        for (int v = 0; v < V; ++v) {
          const Bits key = S::load_bits(column + v * W);
          even[v] = S::even(key);
          odd[v] = S::odd(key);
        }
        MOXIE_UNROLL
        for (int r = 0; r < R; ++r) {
          const float* q = q_floats + r * head_dim + 2 * pair;
          const Float q_even = S::set1(q[0]), q_odd = S::set1(q[1]);
          MOXIE_UNROLL
          for (int v = 0; v < V; ++v) {
            sum[r][v] = S::mul_add(q_even, even[v], sum[r][v]);
            sum[r][v] = S::mul_add(q_odd, odd[v], sum[r][v]);
          }
        }
      }
    }
    MOXIE_UNROLL
    for (int r = 0; r < R; ++r) {
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) S::store(scores + r * kBlock + (vector + v) * W, sum[r][v]);
    }
  }

  // Turns one row's scores of keys [begin, end) of a block into weights and takes them into its
  // running maximum and lane-wise total. Returns the factor that earlier sums must be scaled by.
  static float softmax_row(float* scores, int begin, int end, float scale, float& maximum,
                           float* total) {
    const int first = begin / W, last = (end + W - 1) / W;
    Float x[kVectors];
    Float best = S::set1(maximum);
    const Float hidden = S::set1(-__builtin_inff());
    for (int v = first; v < last; ++v) {
      x[v] = S::mul(S::load(scores + v * W), S::set1(scale));
      if (begin > v * W || end < (v + 1) * W)
        x[v] = S::keep_lanes(x[v], hidden, begin - v * W, end - v * W);
      best = S::max(best, x[v]);
    }
    const float new_maximum = S::reduce_max(best);
    const Float shift = S::set1(new_maximum);
    Float sum = S::zero();
    for (int v = first; v < last; ++v) {
      const Float weight = exp2_approx<S>(S::sub(x[v], shift));
      S::store(scores + v * W, weight);
      sum = S::add(sum, weight);
    }
    // Not through != : a NaN must reach the total.
    const float factor = new_maximum == maximum ? 1.0f : exp2_approx_one<S>(maximum - new_maximum);
    maximum = new_maximum;
    S::store(total, S::mul_add(S::load(total), S::set1(factor), sum));
    return factor;
  }

  // sums[r] += weight[r, key] * value[key] for keys begin .. end - 1 in this order. Weights of a
  // row lie kRowStep apart from those of the next, those of a key kKeyStep from those of the next.
  template <int R, int kRowStep = kBlock, int kKeyStep = 1>
  static void add_values(const float* weights, const bf16* const* values, int begin, int end,
                         int head_dim, float* sums, int64_t ahead_elements) {
    for (int d = 0; d < head_dim; d += 2 * W) {
      Float even[R], odd[R];
      MOXIE_UNROLL
      for (int r = 0; r < R; ++r) {
        even[r] = S::load(sums + r * head_dim + d);
        odd[r] = S::load(sums + r * head_dim + d + W);
      }
      for (int key = begin; key < end; ++key) {
        const Bits pairs = S::load_bits(values[key] + d);
        S::prefetch(values[key] + d + ahead_elements);
        const Float value_even = S::even(pairs), value_odd = S::odd(pairs);
        MOXIE_UNROLL
        for (int r = 0; r < R; ++r) {
          const Float weight = S::set1(weights[r * kRowStep + key * kKeyStep]);
          even[r] = S::mul_add(weight, value_even, even[r]);
          odd[r] = S::mul_add(weight, value_odd, odd[r]);
        }
      }
      MOXIE_UNROLL
      for (int r = 0; r < R; ++r) {
        S::store(sums + r * head_dim + d, even[r]);
        S::store(sums + r * head_dim + d + W, odd[r]);
      }
    }
  }

  struct Rows {  // of one position
    const float* q_floats;
    const bf16* q_pairs;
    float *scores, *sums, *maxima, *totals;
  };

  template <int R>
  static void block_rows(const Rows& rows, const AttentionTile& tile, const uint32_t* keys,
                         const bf16* const* values, int begin, int end, Ahead& ahead) {
    const int last = (end + W - 1) / W;
    int v = begin / W;
    for (; v + 2 <= last; v += 2)
      score_vectors<R, 2>(rows.q_floats, rows.q_pairs, tile.head_dim, keys, v, rows.scores, ahead);
    if (v < last)
      score_vectors<R, 1>(rows.q_floats, rows.q_pairs, tile.head_dim, keys, v, rows.scores, ahead);
    for (int r = 0; r < R; ++r) {
      const float factor = softmax_row(rows.scores + r * kBlock, begin, end, tile.sm_scale * kLog2E,
                                       rows.maxima[r], rows.totals + r * W);
      if (factor == 1.0f) continue;
      float* sums = rows.sums + r * tile.head_dim;
      for (int d = 0; d < tile.head_dim; d += W)
        S::store(sums + d, S::mul(S::load(sums + d), S::set1(factor)));
    }
    add_values<R>(rows.scores, values, begin, end, tile.head_dim, rows.sums, ahead.value_elements);
  }

  template <int R>
  static void step(Rows& rows, int& left, const AttentionTile& tile, const uint32_t* keys,
                   const bf16* const* values, int begin, int end, Ahead& ahead) {
    while (left >= R) {
      block_rows<R>(rows, tile, keys, values, begin, end, ahead);
      ahead.key_step_bytes = ahead.value_elements = 0;
      rows.q_floats += R * tile.head_dim;
      rows.q_pairs += R * tile.head_dim;
      rows.sums += R * tile.head_dim;
      rows.maxima += R;
      rows.totals += R * W;
      left -= R;
    }
  }

  static void attend(const AttentionTile& tile) {
    const int head_dim = tile.head_dim, group = tile.group;
    const TileScratch parts = tile_scratch(tile.num_positions, group, head_dim);
    const auto floats = [&](int64_t offset) {
      return reinterpret_cast<float*>(tile.scratch + offset);
    };
    bf16* zeros = reinterpret_cast<bf16*>(tile.scratch + parts.rows);
    const bf16** key_rows = reinterpret_cast<const bf16**>(tile.scratch + parts.keys) - 2 * kBlock;
    const bf16** value_rows = key_rows + kBlock;
    uint32_t* keys = reinterpret_cast<uint32_t*>(tile.scratch + parts.keys);
    float *scores = floats(parts.scores), *sums = floats(parts.sums);
    float *maxima = floats(parts.maxima), *totals = floats(parts.totals), *q = floats(parts.q);

    for (int d = 0; d < head_dim; ++d) zeros[d] = {};
    const int num_rows = tile.num_positions * group;
    for (int i = 0; i < num_rows * head_dim; ++i) sums[i] = 0;
    for (int row = 0; row < num_rows; ++row) {
      const float sink = tile.partial ? -__builtin_inff() : tile.sinks[row % group];
      maxima[row] = first_maximum(sink);
      for (int lane = 0; lane < W; ++lane) totals[row * W + lane] = 0;
      totals[row * W] = first_total(sink);
    }
    if constexpr (!S::kPairDot) {
      for (int p = 0; p < tile.num_positions; ++p) {
        const bf16* from = tile.q + p * tile.q_stride;
        for (int i = 0; i < group * head_dim; i += W)
          S::store(q + p * group * head_dim + i, S::load_bf16(from + i));
      }
    }

    const int64_t tile_begin = keys_of(tile, tile.first_position).begin;
    const int64_t tile_end = keys_of(tile, tile.first_position + tile.num_positions - 1).end;
    for (int64_t block = tile_begin / kBlock * kBlock; block < tile_end; block += kBlock) {
      const int from = block < tile_begin ? static_cast<int>(tile_begin - block) : 0;
      const int to = block + kBlock > tile_end ? static_cast<int>(tile_end - block) : kBlock;
      int64_t slot = (block + from) % tile.capacity;
      for (int i = 0; i < kBlock; ++i) {
        if (i < from || i >= to) {
          key_rows[i] = zeros;
          continue;
        }
        key_rows[i] = tile.k + slot * head_dim;
        value_rows[i] = tile.v + slot * head_dim;
        if (++slot == tile.capacity) slot = 0;
      }
      transpose_keys(key_rows, from, to, head_dim, keys);

      Ahead ahead{reinterpret_cast<const char*>(key_rows[from]), 0, 0};
      if (block + kBlock < tile_end) {
        ahead = {reinterpret_cast<const char*>(key_rows[from] + (kBlock - from) * head_dim),
                 kKeyBytes, int64_t{kBlock} * head_dim};
      }
      for (int p = 0; p < tile.num_positions; ++p) {
        const KeySpan span = keys_of(tile, tile.first_position + p);
        const int64_t begin = span.begin - block, end = span.end - block;
        if (begin >= kBlock || end <= 0) continue;
        const int row_begin = begin > 0 ? static_cast<int>(begin) : 0;
        const int row_end = end < kBlock ? static_cast<int>(end) : kBlock;
        const int row = p * group;
        Rows rows{q + row * head_dim,
                  tile.q + p * tile.q_stride,
                  scores,
                  sums + row * head_dim,
                  maxima + row,
                  totals + row * W};
        int left = group;
        if constexpr (S::kMaxRows >= 8)
          step<8>(rows, left, tile, keys, value_rows, row_begin, row_end, ahead);
        step<4>(rows, left, tile, keys, value_rows, row_begin, row_end, ahead);
        step<2>(rows, left, tile, keys, value_rows, row_begin, row_end, ahead);
        step<1>(rows, left, tile, keys, value_rows, row_begin, row_end, ahead);
      }
    }

    if (tile.partial != nullptr) {
      for (int h = 0; h < group; ++h) {
        tile.partial[h] = maxima[h];
        tile.partial[group + h] = S::reduce_add(S::load(totals + h * W));
      }
      for (int i = 0; i < group * head_dim; ++i) tile.partial[2 * group + i] = sums[i];
      return;
    }
    for (int row = 0; row < num_rows; ++row) {
      const float total = S::reduce_add(S::load(totals + row * W));
      bf16* out = tile.out + row / group * tile.out_stride + row % group * head_dim;
      store_row(sums + row * head_dim, total, head_dim, out);
    }
  }

  // Divides by the total, and puts even and odd dimensions back beside each other.
  static void store_row(const float* sums, float total, int head_dim, bf16* out) {
    const Float inverse = S::set1(1.0f / total);
    for (int d = 0; d < head_dim; d += 2 * W) {
      const Float even = S::mul(S::load(sums + d), inverse);
      const Float odd = S::mul(S::load(sums + d + W), inverse);
      S::store_bits(out + d, S::pair_bf16(S::round_bf16_any_nan(even), S::round_bf16_any_nan(odd)));
    }
  }

  static void transpose_keys(const bf16* const* key_rows, int from, int to, int head_dim,
                             uint32_t* keys) {
    for (int key = from / W * W; key < to; key += W) {
      for (int d = 0; d < head_dim; d += 2 * W) {
        const void* rows[W];
        for (int i = 0; i < W; ++i) rows[i] = key_rows[key + i] + d;
        S::transpose(rows, keys + d / 2 * kBlock + key, kBlock);
      }
    }
  }

  static void merge(const AttentionMerge& merge) {
    const int group = merge.group, head_dim = merge.head_dim;
    const int64_t step_floats = partial_floats(group, head_dim);
    for (int h = 0; h < group; ++h) {
      const float sink_maximum = first_maximum(merge.sinks[h]);
      float maximum = sink_maximum;
      for (int i = 0; i < merge.num_partials; ++i) {
        const float candidate = merge.partials[i * step_floats + h];
        maximum = candidate > maximum ? candidate : maximum;
      }
      float total = first_total(merge.sinks[h]) * exp2_approx_one<S>(sink_maximum - maximum);
      for (int i = 0; i < merge.num_partials; ++i) {
        const float* partial = merge.partials + i * step_floats;
        total += partial[group + h] * exp2_approx_one<S>(partial[h] - maximum);
      }
      const Float inverse = S::set1(1.0f / total);
      for (int d = 0; d < head_dim; d += 2 * W) {
        Float even = S::zero(), odd = S::zero();
        for (int i = 0; i < merge.num_partials; ++i) {
          const float* partial = merge.partials + i * step_floats;
          const float* sums = partial + 2 * group + h * head_dim + d;
          const Float factor = exp2_approx<S>(S::set1(partial[h] - maximum));
          even = S::mul_add(factor, S::load(sums), even);
          odd = S::mul_add(factor, S::load(sums + W), odd);
        }
        S::store_bits(merge.out + h * head_dim + d,
                      S::pair_bf16(S::round_bf16_any_nan(S::mul(even, inverse)),
                                   S::round_bf16_any_nan(S::mul(odd, inverse))));
      }
    }
  }

  static AttentionKernels kernels() { return {&attend, &attend, &merge}; }
};

}  // namespace
}  // namespace moxie::cpu
