// Attention with sinks and windows over bf16 caches. Implements AttentionArgs of ops/attention.h.
//
// Keys are walked in blocks of 64 aligned at absolute positions, so that neither chunking nor batch
// nor threads change a bit. In prefill a task is a tile of query positions of one kv head, which
// share each block's transposed keys. In decode it is one row of one kv head; a row that sees many
// keys is cut at absolute multiples of kDecodeSplit, and the parts are merged in order.
#pragma once

#include <cstdint>

#include "cpu/context.h"
#include "ops/attention.h"

namespace moxie::cpu {

int64_t attention_scratch_bytes(const BackendLimits& limits, Isa isa, int num_threads);
// Throws Error(kInvalidArgument) when the shapes do not fit together or a ring is too small.
void attention(const AttentionArgs& args, Context& context);
// With given kernels instead of those for context.isa (tests).
struct AttentionKernels;
void attention_with(const AttentionKernels& kernels, const AttentionArgs& args, Context& context);

}  // namespace moxie::cpu
