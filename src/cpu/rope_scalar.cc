#include "cpu/rope.h"
#include "cpu/rope_kernel.h"
#include "cpu/simd_portable.h"

namespace moxie::cpu {

RopeKernel rope_kernel_scalar(int64_t head_dim) {
  return head_dim % 8 == 0 ? &rope_heads<PortableSimd<4>> : &rope_heads<PortableSimd<1>>;
}

}  // namespace moxie::cpu
