#include "cpu/rms_norm.h"
#include "cpu/rms_norm_kernel.h"
#include "cpu/simd_portable.h"

namespace moxie::cpu {

RmsNormKernel rms_norm_kernel_scalar() { return &rms_norm_row<PortableSimd<4>>; }

}  // namespace moxie::cpu
