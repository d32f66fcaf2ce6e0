#include "cpu/attention_kernel.h"
#include "cpu/simd_portable.h"

namespace moxie::cpu {

AttentionKernels attention_kernels_scalar(int64_t head_dim) {
  return head_dim % 8 == 0 ? Attention<PortableSimd<4>>::kernels()
                           : Attention<PortableSimd<1>>::kernels();
}

}  // namespace moxie::cpu
