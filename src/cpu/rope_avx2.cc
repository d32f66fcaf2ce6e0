#include "cpu/rope.h"
#include "cpu/rope_kernel.h"
#include "cpu/simd_avx2.h"

namespace moxie::cpu {

RopeKernel rope_kernel_avx2() { return &rope_heads<Avx2>; }

}  // namespace moxie::cpu
