// linear() and moe() with a given set of kernels: for tests, which also run emulated ones.
#pragma once

#include "cpu/context.h"
#include "cpu/matmul_kernels.h"
#include "ops/linear.h"
#include "ops/moe.h"

namespace moxie::cpu {

void linear_with(const MatmulKernels& kernels, const LinearArgs& args, Context& context);
void moe_with(const MatmulKernels& kernels, const MoeArgs& args, Context& context);

int64_t linear_scratch_bytes_with(const MatmulKernels& kernels, const BackendLimits& limits,
                                  int num_threads);
int64_t moe_scratch_bytes_with(const MatmulKernels& kernels, const BackendLimits& limits,
                               int num_threads);

}  // namespace moxie::cpu
