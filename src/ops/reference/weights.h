// Weights as the oracles read them, in either layout.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "ops/reference/bounded.h"
#include "ops/tensor.h"

namespace moxie {

// Row `row` of matrix e: k values as activations of `dtype` (kF32, kBF16) meet them.
void decode_weight_row(const Mxfp4Matrices& weights, Mxfp4Layout layout, int64_t e, int64_t row,
                       DType dtype, float* out);

// The sum of products in float64, and that of their magnitudes.
ExactDot exact_dot(const float* a, const float* b, int64_t count);

}  // namespace moxie
