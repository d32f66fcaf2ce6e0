#include "cpu/rms_norm.h"
#include "cpu/rms_norm_kernel.h"
#include "cpu/simd_avx2.h"

namespace moxie::cpu {

RmsNormKernel rms_norm_kernel_avx2() { return &rms_norm_row<Avx2>; }

}  // namespace moxie::cpu
