// RMSNorm of bf16 rows. Implements ops/rms_norm.h.
#pragma once

#include <cstdint>

#include "base/bf16.h"
#include "cpu/context.h"
#include "ops/rms_norm.h"

namespace moxie::cpu {

// Throws Error(kUnsupported) unless the rows are bf16. Needs no scratch.
void rms_norm(const RmsNormArgs& args, Context& context);

// One row; out may be x.
using RmsNormKernel = void (*)(const bf16* x, const float* scale, float epsilon, int64_t cols,
                               bf16* out);
RmsNormKernel rms_norm_kernel(Isa isa);
RmsNormKernel rms_norm_kernel_scalar();
RmsNormKernel rms_norm_kernel_avx2();

}  // namespace moxie::cpu
