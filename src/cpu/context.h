// What every CPU operation gets besides its Args: threads, instruction set and scratch memory.
#pragma once

#include <cstdint>
#include <span>

#include "base/memory.h"
#include "base/thread_pool.h"
#include "cpu/isa.h"
#include "ops/backend.h"

namespace moxie::cpu {

struct Context {
  ThreadPool& pool;
  Isa isa;
  BackendLimits limits;        // what reserve() was told
  std::span<uint8_t> scratch;  // 64-byte aligned; at least what the operation's own
                               // *_scratch_bytes() asked for
};

// Each operation lives in a header of its own: cpu/linear.h has
//   int64_t linear_scratch_bytes(const BackendLimits& limits, Isa isa, int num_threads);
//   void linear(const LinearArgs& args, Context& context);
// and so on for moe, attention, rope, rms_norm, route, embed. Scratch is shared: its contents do
// not outlive a call.

}  // namespace moxie::cpu
