// The oracle of ops/moe.h, in float64, with the contract's roundings.
#pragma once

#include <vector>

#include "ops/moe.h"
#include "ops/reference/bounded.h"

namespace moxie {

// [rows, hidden] of checked Args whose pointers are of the host; `out` is not looked at. Errors are
// propagated through every step: where a rounding to the activation dtype cannot tip, none is left.
// Throws Error(kInvalidArgument) for foreign experts that are to be refused.
std::vector<Bounded> reference_moe(const MoeArgs& args, int num_threads);

}  // namespace moxie
