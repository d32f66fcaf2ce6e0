// Choice of experts. Implements ops/route.h without row lists.
#pragma once

#include "cpu/context.h"
#include "ops/route.h"

namespace moxie::cpu {

// logits may be bf16 or float32. Needs no scratch.
void route(const RouteArgs& args, Context& context);

}  // namespace moxie::cpu
