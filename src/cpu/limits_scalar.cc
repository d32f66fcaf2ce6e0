#include "cpu/limits_kernel.h"
#include "cpu/simd_portable.h"

namespace moxie::cpu {

LimitKernels limit_kernels_scalar() { return limit_kernels_of<PortableSimd<4>, 12>(); }

}  // namespace moxie::cpu
