// Products in AVX-512 without bf16 instructions: everything is widened to float32.
//
// Work    decode: one weight row at a time, or one in each of four places for a single row of
//         activations; a block's 32 codes become two vectors (even and odd elements) by one lookup
//         each. prefill: matmul_prefill_avx512.cc.
// Order   kChains pairs of vectors in turn
// Needs   AVX-512 F, BW, DQ, VL
#include "cpu/matmul_avx512.h"

#include <immintrin.h>

#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_tables.h"

namespace moxie::cpu {
namespace {

constexpr int kChains = 2;  // independent sums per row, for each of even and odd

struct Block {
  __m512 even, odd;
};

Block decode(const uint8_t* codes, uint8_t scale) {
  const __m512i pairs =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  const __m512 table = _mm512_load_ps(kMxfp4Float.values[scale]);
  return {_mm512_permutexvar_ps(pairs, table),
          _mm512_permutexvar_ps(_mm512_srli_epi32(pairs, 4), table)};
}

Block load_dense(const uint16_t* p, __mmask32 mask) {
  const __m512i x = _mm512_maskz_loadu_epi16(mask, p);
  return {even_of(x), odd_of(x)};
}

// Each 32 elements as 16 even ones, then 16 odd ones.
void prepare(const uint16_t* x, int64_t k, void* out) {
  float* values = static_cast<float*>(out);
  for (int64_t i = 0; i < k; i += kDepth) {
    const Block block = load_dense(x + i, lanes_32(k - i));
    _mm512_store_ps(values + i, block.even);
    _mm512_store_ps(values + i + 16, block.odd);
  }
}

template <int kRows>
struct Sums {
  __m512 even[kRows][kChains], odd[kRows][kChains];

  void clear() {
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < kChains; ++c) even[r][c] = odd[r][c] = _mm512_setzero_ps();
  }
  void add(int chain, const Block& w, const float* const* x, int64_t at) {
    for (int r = 0; r < kRows; ++r) {
      even[r][chain] = _mm512_fmadd_ps(w.even, _mm512_load_ps(x[r] + at), even[r][chain]);
      odd[r][chain] = _mm512_fmadd_ps(w.odd, _mm512_load_ps(x[r] + at + 16), odd[r][chain]);
    }
  }
  float total(int r) const {
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(even[r][0], odd[r][0]), _mm512_add_ps(even[r][1], odd[r][1])));
  }
};

// kPlaces weight rows, which are row_step rows apart, as are their results. (Loops over places are
// unrolled by hand, because g++ 12 otherwise stores every sum in every step.)
template <int kRows, int kPlaces>
void dot_dense_places(const uint16_t* weight, int64_t row_step, int64_t k, const float* const* rows,
                      float* z, int64_t z_stride) {
  constexpr int64_t kAheadBytes = kPlaces == 1 ? 2048 : 1024;
  const uint16_t* w[kPlaces];
  Sums<kRows> sums[kPlaces];
#pragma GCC unroll 4
  for (int place = 0; place < kPlaces; ++place) {
    w[place] = weight + place * row_step * k;
    sums[place].clear();
  }
  int64_t i = 0;
  for (; i + 64 <= k; i += 64) {
#pragma GCC unroll 4
    for (int place = 0; place < kPlaces; ++place) {
      const char* ahead = reinterpret_cast<const char*>(w[place] + i) + kAheadBytes;
      _mm_prefetch(ahead, _MM_HINT_T0);
      _mm_prefetch(ahead + 64, _MM_HINT_T0);
      sums[place].add(0, load_dense(w[place] + i, lanes_32(32)), rows, i);
      sums[place].add(1, load_dense(w[place] + i + 32, lanes_32(32)), rows, i + 32);
    }
  }
  for (; i < k; i += 32)
#pragma GCC unroll 4
    for (int place = 0; place < kPlaces; ++place)
      sums[place].add(0, load_dense(w[place] + i, lanes_32(k - i)), rows, i);
#pragma GCC unroll 4
  for (int place = 0; place < kPlaces; ++place)
    for (int r = 0; r < kRows; ++r) z[r * z_stride + place * row_step] = sums[place].total(r);
}

// One place alone does not keep enough reads under way. More activation rows than one have no
// registers left for several.
template <int kRows>
void dot_dense_rows(const uint16_t* weight, int64_t n, int64_t k, const void* const* x, float* z,
                    int64_t z_stride) {
  constexpr int kPlaces = kRows == 1 ? 4 : 1;
  const float* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const float*>(x[r]);
  const int64_t part = n / kPlaces;
  for (int64_t f = 0; f < part; ++f)
    dot_dense_places<kRows, kPlaces>(weight + f * k, part, k, rows, z + f, z_stride);
  for (int64_t f = part * kPlaces; f < n; ++f)
    dot_dense_places<kRows, 1>(weight + f * k, 0, k, rows, z + f, z_stride);
}

// kPlaces weight rows, which are row_step rows apart, as are their results.
template <int kRows, int kPlaces>
void dot_mxfp4_places(const uint8_t* codes, const uint8_t* scales, int64_t row_step, int64_t blocks,
                      const float* const* rows, float* z, int64_t z_stride) {
  constexpr int64_t kAheadBytes = kPlaces == 1 ? 4096 : 2048;
  const uint8_t* row_codes[kPlaces];
  const uint8_t* row_scales[kPlaces];
  Sums<kRows> sums[kPlaces];
#pragma GCC unroll 4
  for (int place = 0; place < kPlaces; ++place) {
    row_codes[place] = codes + place * row_step * blocks * 16;
    row_scales[place] = scales + place * row_step * blocks;
    sums[place].clear();
    prefetch_scales_ahead(row_scales[place], blocks);
  }
  int64_t b = 0;
  for (; b + 4 <= blocks; b += 4) {
#pragma GCC unroll 4
    for (int place = 0; place < kPlaces; ++place)
      _mm_prefetch(reinterpret_cast<const char*>(row_codes[place] + b * 16) + kAheadBytes,
                   _MM_HINT_T0);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
      for (int place = 0; place < kPlaces; ++place)
        sums[place].add(i % kChains,
                        decode(row_codes[place] + (b + i) * 16, row_scales[place][b + i]), rows,
                        (b + i) * 32);
  }
  for (; b < blocks; ++b)
#pragma GCC unroll 4
    for (int place = 0; place < kPlaces; ++place)
      sums[place].add(0, decode(row_codes[place] + b * 16, row_scales[place][b]), rows, b * 32);
#pragma GCC unroll 4
  for (int place = 0; place < kPlaces; ++place)
    for (int r = 0; r < kRows; ++r) z[r * z_stride + place * row_step] = sums[place].total(r);
}

template <int kRows>
void dot_mxfp4_rows(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                    const void* const* x, float* z, int64_t z_stride) {
  constexpr int kPlaces = kRows == 1 ? 4 : 1;
  const float* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const float*>(x[r]);
  const int64_t blocks = k / 32, part = n / kPlaces;
  for (int64_t f = 0; f < part; ++f)
    dot_mxfp4_places<kRows, kPlaces>(codes + f * blocks * 16, scales + f * blocks, part, blocks,
                                     rows, z + f, z_stride);
  for (int64_t f = part * kPlaces; f < n; ++f)
    dot_mxfp4_places<kRows, 1>(codes + f * blocks * 16, scales + f * blocks, 0, blocks, rows, z + f,
                               z_stride);
}

void dot_dense(const uint16_t* weight, int64_t n, int64_t k, const void* const* x, int rows,
               float* z, int64_t z_stride) {
  switch (rows) {
    case 1:
      return dot_dense_rows<1>(weight, n, k, x, z, z_stride);
    case 2:
      return dot_dense_rows<2>(weight, n, k, x, z, z_stride);
    case 3:
      return dot_dense_rows<3>(weight, n, k, x, z, z_stride);
    default:
      return dot_dense_rows<4>(weight, n, k, x, z, z_stride);
  }
}

}  // namespace

void prepare_avx512(const uint16_t* x, int64_t k, void* out) { prepare(x, k, out); }

void dot_mxfp4_avx512(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                      const void* const* x, int rows, float* z, int64_t z_stride) {
  switch (rows) {
    case 1:
      return dot_mxfp4_rows<1>(codes, scales, n, k, x, z, z_stride);
    case 2:
      return dot_mxfp4_rows<2>(codes, scales, n, k, x, z, z_stride);
    case 3:
      return dot_mxfp4_rows<3>(codes, scales, n, k, x, z, z_stride);
    default:
      return dot_mxfp4_rows<4>(codes, scales, n, k, x, z, z_stride);
  }
}

const MatmulKernels& matmul_kernels_avx512() {
  static constexpr MatmulKernels kKernels = {.name = "avx512",
                                             .x_element_bytes = 4,
                                             .prepare_dense = prepare_avx512,
                                             .prepare_mxfp4 = prepare_avx512,
                                             .dot_dense = dot_dense,
                                             .dot_mxfp4 = dot_mxfp4_avx512,
                                             .panel_element_bytes = 4,
                                             .feature_tile = 64,
                                             .features_per_task = kRowsFeaturesAvx512,
                                             .k_chunk = 0,
                                             .multiply_rows = multiply_rows_avx512,
                                             .rows_memory_bytes = kRowsMemoryAvx512,
                                             .finish_bf16 = finish_bf16_avx512,
                                             .finish_f32 = finish_f32_avx512,
                                             .swiglu = swiglu_row_avx512,
                                             .combine = combine_avx512};
  return kKernels;
}

}  // namespace moxie::cpu
