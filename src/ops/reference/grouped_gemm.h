// The oracle of ops/grouped_gemm.h, in float64.
#pragma once

#include <vector>

#include "ops/grouped_gemm.h"
#include "ops/reference/bounded.h"

namespace moxie {

// [out rows, out cols] of checked Args whose pointers are of the host: what `out` must hold,
// rounded as the contract says; kUntouched where no entry leads. `out` itself is not looked at.
// Throws Error(kInvalidArgument) if row_offsets do not rise from 0 to at most args.rows, or if two
// entries lead to the same row.
std::vector<Bounded> reference_grouped_gemm(const GroupedGemmArgs& args, int num_threads);

}  // namespace moxie
