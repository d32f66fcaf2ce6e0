// The AVX2 kernels that go before and after the products. Contracts: MatmulKernels.
#pragma once

#include <cstdint>

namespace moxie::cpu {

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
