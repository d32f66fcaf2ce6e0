// Which kernel of an operation runs, on processors without kernels of their own.
#include "cpu/attention_tile.h"
#include "cpu/limits_kernel.h"
#include "cpu/rms_norm.h"
#include "cpu/rope.h"

namespace moxie::cpu {

AttentionKernels attention_kernels(Isa, int64_t head_dim) {
  return attention_kernels_scalar(head_dim);
}

RmsNormKernel rms_norm_kernel(Isa) { return rms_norm_kernel_scalar(); }

RopeKernel rope_kernel(Isa, int64_t head_dim) { return rope_kernel_scalar(head_dim); }

LimitKernels limit_kernels(Isa) { return limit_kernels_scalar(); }

}  // namespace moxie::cpu
