// Which set of kernels runs, on x86-64.
#include "cpu/matmul_kernels.h"

namespace moxie::cpu {

const MatmulKernels& matmul_kernels(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      break;
    case Isa::kAvx2:
      return matmul_kernels_avx2();
    case Isa::kAvx512:
      return matmul_kernels_avx512();
    case Isa::kAvx512Bf16:
      return matmul_kernels_avx512_bf16();
    case Isa::kAmx:
      return matmul_kernels_amx();
  }
  return matmul_kernels_scalar();
}

}  // namespace moxie::cpu
