// Rows of the embedding table. Implements ops/embed.h.
#pragma once

#include "cpu/context.h"
#include "ops/embed.h"

namespace moxie::cpu {

// Throws Error(kUnsupported) unless out is bf16, Error(kInvalidArgument) for a token outside the
// table. Needs no scratch.
void embed(const EmbedArgs& args, Context& context);

}  // namespace moxie::cpu
