#include "cpu/attention_kernel.h"
#include "cpu/simd_avx2.h"

namespace moxie::cpu {

AttentionKernels attention_kernels_avx2() { return Attention<Avx2>::kernels(); }

}  // namespace moxie::cpu
