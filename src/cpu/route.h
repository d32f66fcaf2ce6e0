// Choice of experts. Implements RouteArgs of ops/moe.h.
#pragma once

#include "cpu/context.h"
#include "ops/moe.h"

namespace moxie::cpu {

// logits may be bf16 or float32. Needs no scratch.
void route(const RouteArgs& args, Context& context);

}  // namespace moxie::cpu
