// Rotary embedding and the write into the key-value cache. Implements RopeArgs of ops/attention.h.
#pragma once

#include <cstdint>

#include "base/bf16.h"
#include "cpu/context.h"
#include "ops/attention.h"

namespace moxie::cpu {

// Throws Error(kUnsupported) unless the rows are bf16. Needs no scratch.
void rope(const RopeArgs& args, Context& context);

// Rotates `num_heads` heads of one row in place. cos, sin: [head_dim / 2].
using RopeKernel = void (*)(bf16* heads, int64_t num_heads, int64_t head_dim, const float* cos,
                            const float* sin);
RopeKernel rope_kernel(Isa isa, int64_t head_dim);
RopeKernel rope_kernel_scalar(int64_t head_dim);  // head_dim % 2 == 0
RopeKernel rope_kernel_avx2();                    // head_dim % 16 == 0
RopeKernel rope_kernel_avx512();                  // head_dim % 32 == 0

}  // namespace moxie::cpu
