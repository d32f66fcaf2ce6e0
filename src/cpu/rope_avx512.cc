#include "cpu/rope.h"
#include "cpu/rope_kernel.h"
#include "cpu/simd_avx512.h"

namespace moxie::cpu {

RopeKernel rope_kernel_avx512() { return &rope_heads<Avx512>; }

}  // namespace moxie::cpu
