// The AVX-512 kernels that the BF16 and AMX sets share. Contracts: MatmulKernels.
#pragma once

#include <immintrin.h>

#include <cstdint>

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

}  // namespace

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
void swiglu_pairs_avx512(const float* sums, const float* bias, float alpha, float limit, int64_t n,
                         uint32_t* out);
void swiglu_pairs_lookup_avx512(const float* sums, const float* bias, float alpha, float limit,
                                int64_t n, uint32_t* out);
void combine_avx512(const uint16_t* y, int64_t slots, int64_t y_stride, const uint16_t* residual,
                    uint16_t* out, int64_t n);

}  // namespace moxie::cpu
