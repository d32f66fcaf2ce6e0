// Dense layers: x * weight^T with bf16 weights. Implements ops/linear.h.
#pragma once

#include <cstdint>

#include "cpu/context.h"
#include "ops/linear.h"

namespace moxie::cpu {

// Scratch that linear() needs in Context::scratch for any call within `limits`.
int64_t linear_scratch_bytes(const BackendLimits& limits, Isa isa, int num_threads);
void linear(const LinearArgs& args, Context& context);

}  // namespace moxie::cpu
