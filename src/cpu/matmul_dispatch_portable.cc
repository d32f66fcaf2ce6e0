// Which set of kernels runs, on processors without one of their own.
#include "cpu/matmul_kernels.h"

namespace moxie::cpu {

const MatmulKernels& matmul_kernels(Isa) { return matmul_kernels_scalar(); }

}  // namespace moxie::cpu
