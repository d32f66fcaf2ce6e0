// Which kernel of an operation runs, on x86-64.
#include "cpu/attention_tile.h"
#include "cpu/limits_kernel.h"
#include "cpu/rms_norm.h"
#include "cpu/rope.h"

namespace moxie::cpu {

AttentionKernels attention_kernels(Isa isa, int64_t head_dim) {
  if (isa >= Isa::kAmx && head_dim % 32 == 0) return attention_kernels_amx();
  if (isa >= Isa::kAvx512Bf16 && head_dim % 32 == 0) return attention_kernels_avx512_bf16();
  if (isa >= Isa::kAvx512 && head_dim % 32 == 0) return attention_kernels_avx512();
  if (isa >= Isa::kAvx2 && head_dim % 16 == 0) return attention_kernels_avx2();
  return attention_kernels_scalar(head_dim);
}

RmsNormKernel rms_norm_kernel(Isa isa) {
  return isa >= Isa::kAvx2 ? rms_norm_kernel_avx2() : rms_norm_kernel_scalar();
}

RopeKernel rope_kernel(Isa isa, int64_t head_dim) {
  if (isa >= Isa::kAvx512 && head_dim % 32 == 0) return rope_kernel_avx512();
  if (isa >= Isa::kAvx2 && head_dim % 16 == 0) return rope_kernel_avx2();
  return rope_kernel_scalar(head_dim);
}

LimitKernels limit_kernels(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      break;
    case Isa::kAvx2:
      return limit_kernels_avx2();
    case Isa::kAvx512:
      return limit_kernels_avx512();
    case Isa::kAvx512Bf16:
      return limit_kernels_avx512_bf16();
    case Isa::kAmx:
      return limit_kernels_amx();
  }
  return limit_kernels_scalar();
}

}  // namespace moxie::cpu
