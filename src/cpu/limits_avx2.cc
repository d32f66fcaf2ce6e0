#include "cpu/limits_kernel.h"
#include "cpu/simd_avx2.h"

namespace moxie::cpu {

LimitKernels limit_kernels_avx2() { return limit_kernels_of<Avx2, 12>(); }

}  // namespace moxie::cpu
