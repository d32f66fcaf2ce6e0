// The experts block with MXFP4 weights. Implements ops/moe.h for given ids, in the checkpoint's
// layout, with biases.
#pragma once

#include <cstdint>

#include "cpu/context.h"
#include "ops/moe.h"

namespace moxie::cpu {

// Scratch that moe() needs in Context::scratch for any call within `limits`.
int64_t moe_scratch_bytes(const BackendLimits& limits, Isa isa, int num_threads);
void moe(const MoeArgs& args, Context& context);

}  // namespace moxie::cpu
