// The slow oracle: every operation as its contract is written, sums in float64.
#pragma once

#include <memory>

#include "base/dtype.h"
#include "ops/backend.h"

namespace moxie {

// activation_dtype kF32: the oracle of `--precision fp32`. kBF16: rounds to bf16 at every tensor
// boundary the contracts name, what the fast backends are tested against.
std::unique_ptr<Backend> make_reference_backend(DType activation_dtype, int num_threads);

}  // namespace moxie
