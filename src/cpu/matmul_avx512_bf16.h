// The AVX-512 BF16 kernels that AMX shares. Contracts: MatmulKernels.
#pragma once

#include <cstdint>

namespace moxie::cpu {

void prepare_avx512_bf16(const uint16_t* x, int64_t k, void* out);
void dot_dense_avx512_bf16(const uint16_t* weight, int64_t n, int64_t k, const void* const* x,
                           int rows, float* z, int64_t z_stride);
// Panels as AMX tiles want them (tile_panel.h).
void tile_panel_dense_avx512_bf16(const uint16_t* weight, int64_t stride, int64_t features,
                                  int64_t k, void* panel, int64_t panel_stride);
void tile_panel_mxfp4_avx512_bf16(const uint8_t* codes, const uint8_t* scales, int64_t block_stride,
                                  int64_t features, int64_t k, void* panel, int64_t panel_stride);

}  // namespace moxie::cpu
