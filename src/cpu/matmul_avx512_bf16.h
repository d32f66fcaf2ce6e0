// The AVX-512 BF16 kernels that AMX shares. Contracts: MatmulKernels.
#pragma once

#include <cstdint>

namespace moxie::cpu {

void prepare_avx512_bf16(const uint16_t* x, int64_t k, void* out);
// In lookup order (mxfp4_lookup_avx512.h).
void dot_dense_prefetching_avx512_bf16(const uint16_t* weight, int64_t n, int64_t k,
                                       const void* const* x, int rows, float* z, int64_t z_stride);

}  // namespace moxie::cpu
