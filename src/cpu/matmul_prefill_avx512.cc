// Prefill's products in AVX-512 with float32: features along the lanes, rows broadcast.
//
// Work    a range of up to kFeatures features by up to kMaxTaskRows rows of activations. Of each
//         chunk of k the rows are widened once to float32; then panels of 64 features are decoded,
//         [k][feature], and multiplied by tiles of up to 6 rows: 24 accumulators.
// Memory  a panel is 32 KiB and a tile's rows are 3 KiB, which L1 holds; all widened rows and the
//         sums are in L2
// Order   k after k, in one chain for each sum
// Cost    2 cycles a row for a block of 64 features, of which 10 loads; 6 to decode MXFP4, 9 for
//         bf16. No lane is spent on rows that are not there.
// Needs   AVX-512 F, BW, DQ, VL
#include <immintrin.h>

#include "cpu/matmul_avx512.h"
#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_tables.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kFeatures = kRowsFeaturesAvx512, kChunk = kRowsChunkAvx512;
constexpr int kVectors = 4, kTileRows = 6;
constexpr int64_t kPanel = kVectors * 16;     // features
constexpr uint8_t kFirstScaleLookedUp = 253;  // from here on a weight is not code times scale

struct Memory {
  float panel[kChunk][kPanel];
  float x[kMaxTaskRows][kChunk];
};
static_assert(sizeof(Memory) == kRowsMemoryAvx512);

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// What a row has behind `bytes` from `start` on: the next chunk is there. Rows begin anywhere in a
// line, so that is a line more than it fills.
[[gnu::always_inline]] inline void prefetch_next_chunk(const void* start, int64_t bytes) {
  const char* next = static_cast<const char*>(start) + bytes;
  for (int64_t i = 0; i < bytes + 64; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
}

// Elements [begin, begin + depth) of the rows; those from k on are 0.
void widen_rows(const uint16_t* const* rows, int64_t num_rows, int64_t begin, int64_t depth,
                int64_t k, Memory& memory) {
  for (int64_t r = 0; r < num_rows; ++r) {
    const uint16_t* row = rows[r] + begin;
    prefetch_next_chunk(row, depth * 2);
    for (int64_t i = 0; i < depth; i += 16) {
      const __mmask16 mask = lanes_16(k - begin - i);
      const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row + i));
      _mm512_store_si512(memory.x[r] + i, _mm512_slli_epi32(wide, 16));
    }
  }
}

// The factors of a block of 16 rows of weights; `regular` is whether each weight is code times
// factor, exactly.
struct Factors {
  float values[16];
  bool regular;
};

// `bytes` bytes, up to four, of each of 16 rows. Not by way of memory: a load of what several
// stores wrote waits until all stores before it have left, those of the panel too.
template <int kBytes>
__m512i words_of_rows(const uint8_t* const* rows, int64_t at) {
  const auto word = [&](int row) {
    int value = 0;
    __builtin_memcpy(&value, rows[row] + at, kBytes);
    return value;
  };
  return _mm512_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7),
                           word(8), word(9), word(10), word(11), word(12), word(13), word(14),
                           word(15));
}

// Of all blocks of 16 rows.
void factors_of(const uint8_t* const* scales, int64_t blocks, Factors* out) {
  for (int64_t from = 0; from < blocks; from += 4) {
    // Nothing behind a row is read: the last four again, or one by one where there are no four.
    const int64_t at = blocks < 4 ? from : smaller(from, blocks - 4);
    __m512i words = blocks < 4 ? words_of_rows<1>(scales, 0) : words_of_rows<4>(scales, at);
    for (int64_t b = 1; b < blocks && blocks < 4; ++b)
      words = _mm512_or_si512(
          words, _mm512_sll_epi32(words_of_rows<1>(scales, b), _mm_cvtsi64_si128(8 * b)));
    for (int64_t b = from; b < from + 4 && b < blocks; ++b) {
      const __m512i scale = _mm512_and_si512(
          _mm512_srl_epi32(words, _mm_cvtsi64_si128(8 * (b - at))), _mm512_set1_epi32(0xff));
      const __mmask16 is_zero = _mm512_testn_epi32_mask(scale, scale);
      const __m512i bits = _mm512_mask_mov_epi32(_mm512_slli_epi32(scale, 23), is_zero,
                                                 _mm512_set1_epi32(0x00400000));  // 2^-127
      _mm512_storeu_si512(out[b].values, bits);
      out[b].regular = _mm512_cmpge_epu32_mask(scale, _mm512_set1_epi32(kFirstScaleLookedUp)) == 0;
    }
  }
}

// A block of 16 rows of weights, code after code, with the tables of all scales.
void decode_looked_up(const uint8_t* const* codes, const uint8_t* const* scales, int64_t block,
                      float* out) {
  for (int64_t f = 0; f < 16; ++f) {
    const float* table = kMxfp4Float.values[scales[f][block]];
    for (int64_t i = 0; i < 16; ++i) {
      const uint8_t pair = codes[f][block * 16 + i];
      out[2 * i * kPanel + f] = table[pair & 15];
      out[(2 * i + 1) * kPanel + f] = table[pair >> 4];
    }
  }
}

__m512i four_blocks(const uint8_t* const* codes, int64_t first, int64_t at) {
  const auto block = [&](int64_t row) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes[row] + at));
  };
  __m512i rows = _mm512_castsi128_si512(block(first));
  rows = _mm512_inserti32x4(rows, block(first + 4), 1);
  rows = _mm512_inserti32x4(rows, block(first + 8), 2);
  return _mm512_inserti32x4(rows, block(first + 12), 3);
}

// 16 rows of weights: words of eight codes are brought side by side, then each code of theirs is
// looked up and multiplied by its row's scale, which is exact.
void panel_mxfp4_16(const uint8_t* const* codes, const uint8_t* const* scales, int64_t blocks,
                    float* out) {
  const __m512 table = _mm512_load_ps(kMxfp4Float.values[127]);
  Factors factors[kChunk / 32];
  factors_of(scales, blocks, factors);
  for (int64_t b = 0; b < blocks; ++b, out += 32 * kPanel) {
    if (!factors[b].regular) {
      decode_looked_up(codes, scales, b, out);
      continue;
    }
    const __m512 factor = _mm512_loadu_ps(factors[b].values);
    const __m512i q0 = four_blocks(codes, 0, b * 16), q1 = four_blocks(codes, 1, b * 16);
    const __m512i q2 = four_blocks(codes, 2, b * 16), q3 = four_blocks(codes, 3, b * 16);
    const __m512i low01 = _mm512_unpacklo_epi32(q0, q1), high01 = _mm512_unpackhi_epi32(q0, q1);
    const __m512i low23 = _mm512_unpacklo_epi32(q2, q3), high23 = _mm512_unpackhi_epi32(q2, q3);
    const __m512i words[4] = {
        _mm512_unpacklo_epi64(low01, low23), _mm512_unpackhi_epi64(low01, low23),
        _mm512_unpacklo_epi64(high01, high23), _mm512_unpackhi_epi64(high01, high23)};
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) {
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        _mm512_store_ps(
            out + (8 * w + i) * kPanel,
            _mm512_mul_ps(_mm512_permutexvar_ps(
                              _mm512_srli_epi32(words[w], static_cast<unsigned>(4 * i)), table),
                          factor));
    }
  }
}

// The same of bf16 numbers: pairs along k are brought side by side and split.
void panel_dense_16(const uint16_t* const* weights, int64_t k, float* out) {
  for (int64_t i = 0; i < k; i += 32, out += 32 * kPanel) {
    const __mmask32 mask = lanes_32(k - i);
    __m512i pairs[16];
    for (int f = 0; f < 16; ++f) pairs[f] = _mm512_maskz_loadu_epi16(mask, weights[f] + i);
    transpose_16(pairs);
    for (int p = 0; p < 16; ++p) {
      _mm512_store_ps(out + 2 * p * kPanel, even_of(pairs[p]));
      _mm512_store_ps(out + (2 * p + 1) * kPanel, odd_of(pairs[p]));
    }
  }
}

// Features [f, f + kPanel) of the chunk at `begin`; those past the last are as the last.
void decode_panel(const PanelSource& source, int64_t f, int64_t begin, int64_t count,
                  Memory& memory) {
  const bool is_mxfp4 = source.scales != nullptr;
  const int64_t row_bytes = is_mxfp4 ? source.stride * 16 : source.stride * 2;
  const int64_t at = is_mxfp4 ? begin / 2 : begin * 2, bytes = is_mxfp4 ? count / 2 : count * 2;
  const auto* weights = static_cast<const uint8_t*>(source.weights);
  for (int64_t half = 0; half < kPanel; half += 16) {
    const uint8_t* codes[16];
    const uint8_t* scales[16];
    const uint16_t* numbers[16];
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t row = smaller(f + half + i, source.features - 1);
      const uint8_t* start = weights + row * row_bytes + at;
      codes[i] = start;
      numbers[i] = reinterpret_cast<const uint16_t*>(start);
      scales[i] = is_mxfp4 ? source.scales + row * source.stride + begin / 32 : nullptr;
      prefetch_next_chunk(start, bytes);
    }
    if (is_mxfp4)
      panel_mxfp4_16(codes, scales, count / 32, &memory.panel[0][half]);
    else
      panel_dense_16(numbers, count, &memory.panel[0][half]);
  }
}

// kRows rows of x by a panel.
template <int kRows>
void multiply_tile(const float* panel, const float* x, int64_t depth, float* sums, bool first) {
  __m512 acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)
      acc[r][v] = first ? _mm512_setzero_ps() : _mm512_load_ps(sums + r * kFeatures + v * 16);
  for (int64_t k = 0; k < depth; ++k) {
    __m512 w[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      w[v] = _mm512_load_ps(panel + k * kPanel + v * 16);
      asm("" : "+v"(w[v]));  // g++ 12 would load it again for each of few rows
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512 value = _mm512_set1_ps(x[r * kChunk + k]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[r][v] = _mm512_fmadd_ps(w[v], value, acc[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) _mm512_store_ps(sums + r * kFeatures + v * 16, acc[r][v]);
}

using MultiplyTile = void (*)(const float*, const float*, int64_t, float*, bool);
constexpr MultiplyTile kTiles[kTileRows + 1] = {
    nullptr,          multiply_tile<1>, multiply_tile<2>, multiply_tile<3>,
    multiply_tile<4>, multiply_tile<5>, multiply_tile<6>};

}  // namespace

void multiply_rows_avx512(const PanelSource& source, const uint16_t* const* rows, int64_t num_rows,
                          void* scratch, float* sums) {
  Memory& memory = *static_cast<Memory*>(scratch);
  // Tiles of nearly the same number of rows.
  const int64_t tiles = (num_rows + kTileRows - 1) / kTileRows;
  for (int64_t begin = 0; begin == 0 || begin < source.k; begin += kChunk) {
    const int64_t count = smaller(kChunk, source.k - begin);
    const int64_t depth = (count + kDepth - 1) / kDepth * kDepth;
    widen_rows(rows, num_rows, begin, depth, source.k, memory);
    for (int64_t f = 0; f < source.features; f += kPanel) {
      decode_panel(source, f, begin, count, memory);
      int64_t row = 0;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t end = num_rows * (tile + 1) / tiles;
        kTiles[end - row](memory.panel[0], memory.x[row], depth, sums + row * kFeatures + f,
                          begin == 0);
        row = end;
      }
    }
  }
}

}  // namespace moxie::cpu
