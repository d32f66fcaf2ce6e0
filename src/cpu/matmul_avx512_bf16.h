// The AVX-512 BF16 kernels that AMX shares. Contracts: MatmulKernels.
#pragma once

#include <cstdint>

namespace moxie::cpu {

void prepare_avx512_bf16(const uint16_t* x, int64_t k, void* out);
void dot_dense_prefetching_avx512_bf16(const uint16_t* weight, int64_t n, int64_t k,
                                       const void* const* x, int rows, float* z, int64_t z_stride);

// Up to three blocks of zeros, and the header.
inline constexpr int64_t kMxfp4ExtraBytes = 3 * 64 + 64;
void prepare_mxfp4_avx512_bf16(const uint16_t* x, int64_t k, void* out);
void dot_mxfp4_avx512_bf16(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                           const void* const* x, int rows, float* z, int64_t z_stride);

}  // namespace moxie::cpu
