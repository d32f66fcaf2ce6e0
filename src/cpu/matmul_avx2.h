// Parts of the AVX2 set. Contracts: MatmulKernels.
#pragma once

#include <cstdint>

namespace moxie::cpu {

void prepare_mxfp4_avx2(const uint16_t* x, int64_t k, void* out);
void dot_mxfp4_avx2(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                    const void* const* x, int rows, float* z, int64_t z_stride);
void pack_group_avx2(const uint16_t* const* rows, int64_t k, uint32_t* out);
void transpose_avx2(const float* sums, int64_t features, float* rows, int64_t row_stride);
void finish_bf16_avx2(const float* z, const float* bias, float scale, const uint16_t* residual,
                      uint16_t* out, int64_t n);
void finish_f32_avx2(const float* z, const float* bias, float scale, const float* residual,
                     float* out, int64_t n);
void swiglu_row_avx2(const float* z, const float* bias, float alpha, float limit, int64_t n,
                     uint16_t* out);
void swiglu_pairs_avx2(const float* sums, const float* bias, float alpha, float limit, int64_t n,
                       uint32_t* out);
void combine_avx2(const uint16_t* y, int64_t slots, int64_t y_stride, const uint16_t* residual,
                  uint16_t* out, int64_t n);

}  // namespace moxie::cpu
