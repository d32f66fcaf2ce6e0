#include "cpu/limits_kernel.h"
#include "cpu/simd_avx512.h"

namespace moxie::cpu {

LimitKernels limit_kernels_avx512() { return limit_kernels_of<Avx512, 16>(); }

}  // namespace moxie::cpu
