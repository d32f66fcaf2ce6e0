// The oracle of ops/mxfp4_linear.h, in float64.
#pragma once

#include <vector>

#include "ops/mxfp4_linear.h"

namespace moxie {

// z of one output before activation, and sum|x||w|, which its error is measured by.
struct ExactDot {
  double z = 0, abs_sum = 0;
};

// [rows, n] of checked Args, in either layout; a residual, an activation and `out` are not looked
// at.
std::vector<ExactDot> reference_mxfp4_linear(const Mxfp4LinearArgs& args);

}  // namespace moxie
