// The AVX-512 kernels that the BF16 and AMX sets share. Contracts: MatmulKernels.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/matmul_kernels.h"

namespace moxie::cpu {
namespace {

// The scales of a weight row are a twentieth of its bytes and lie elsewhere: too slow a stream for
// the processor to fetch ahead by itself, and each wait for one costs as much as half a row.
[[gnu::always_inline]] inline void prefetch_scales_ahead(const uint8_t* row_scales,
                                                         int64_t blocks) {
  constexpr int64_t kAhead = 512;
  for (int64_t i = 0; i < blocks; i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(row_scales + i) + kAhead, _MM_HINT_T0);
}

// What a row has behind the part that a panel takes: the next panel begins there, and without this
// each of its many short rows would wait for memory.
[[gnu::always_inline]] inline void prefetch_next_panel(const void* row, int64_t bytes) {
  const char* next = static_cast<const char*>(row) + bytes;
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
}

#ifdef __AVX512BW__  // headers compile alone without it

inline __mmask16 lanes_16(int64_t count) {
  if (count <= 0) return 0;
  return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1u);
}
inline __mmask32 lanes_32(int64_t count) { return count >= 32 ? 0xffffffffu : (1u << count) - 1u; }

// Elements 0 2 .. 30 and 1 3 .. 31 of 32 bf16 numbers.
inline __m512 even_of(__m512i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); }
inline __m512 odd_of(__m512i x) {
  return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// rows[i] lane j <-> rows[j] lane i
inline void transpose_16(__m512i* rows) {
  __m512i pairs[16], quads[16], halves[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    halves[i] = _mm512_shuffle_i32x4(quads[i], quads[4 + i], 0x88);
    halves[4 + i] = _mm512_shuffle_i32x4(quads[i], quads[4 + i], 0xdd);
    halves[8 + i] = _mm512_shuffle_i32x4(quads[8 + i], quads[12 + i], 0x88);
    halves[12 + i] = _mm512_shuffle_i32x4(quads[8 + i], quads[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm512_shuffle_i32x4(halves[i], halves[8 + i], 0x88);
    rows[8 + i] = _mm512_shuffle_i32x4(halves[i], halves[8 + i], 0xdd);
    rows[4 + i] = _mm512_shuffle_i32x4(halves[4 + i], halves[12 + i], 0x88);
    rows[12 + i] = _mm512_shuffle_i32x4(halves[4 + i], halves[12 + i], 0xdd);
  }
}

#endif

// Of multiply_rows: features of a range, elements of k at a time, bytes of memory.
constexpr int64_t kRowsFeaturesAvx512 = 384, kRowsChunkAvx512 = 128;
constexpr int64_t kRowsMemoryAvx512 = (64 + kMaxTaskRows) * kRowsChunkAvx512 * 4;

}  // namespace

void multiply_rows_avx512(const PanelSource& source, const uint16_t* const* rows, int64_t num_rows,
                          void* memory, float* sums);
void prepare_avx512(const uint16_t* x, int64_t k, void* out);
void dot_mxfp4_avx512(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                      const void* const* x, int rows, float* z, int64_t z_stride);
void pack_group_avx512(const uint16_t* const* rows, int64_t k, uint32_t* out);
void pack_group_lookup_avx512(const uint16_t* const* rows, int64_t k, uint32_t* out);
void transpose_avx512(const float* sums, int64_t features, float* rows, int64_t row_stride);
void finish_bf16_avx512(const float* z, const float* bias, float scale, const uint16_t* residual,
                        uint16_t* out, int64_t n);
void finish_f32_avx512(const float* z, const float* bias, float scale, const float* residual,
                       float* out, int64_t n);
void swiglu_row_avx512(const float* z, const float* bias, float alpha, float limit, int64_t n,
                       uint16_t* out);
void swiglu_pairs_lookup_avx512(const float* sums, const float* bias, float alpha, float limit,
                                int64_t n, uint32_t* out);
void combine_avx512(const uint16_t* y, int64_t slots, int64_t y_stride, const uint16_t* residual,
                    uint16_t* out, int64_t n);

}  // namespace moxie::cpu
