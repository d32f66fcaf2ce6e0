#include "cpu/attention_kernel.h"
#include "cpu/simd_avx512.h"

namespace moxie::cpu {

AttentionKernels attention_kernels_avx512() { return Attention<Avx512>::kernels(); }

}  // namespace moxie::cpu
