// The oracle of ops/mxfp4_linear.h, in float64.
#pragma once

#include <vector>

#include "ops/mxfp4_linear.h"
#include "ops/reference/bounded.h"

namespace moxie {

// [rows, n] of checked Args, in either layout: z with the bias, sum|x||w|, and the products'
// quantum; a residual, an activation and `out` are not looked at.
std::vector<ExactDot> reference_mxfp4_linear(const Mxfp4LinearArgs& args);

}  // namespace moxie
