// How the next token is drawn from the logits.
#pragma once

#include <cstdint>

namespace moxie {

// The order is: temperature, top_k, top_p, min_p, draw.
struct SamplingParams {
  double temperature = 1.0;  // 0 .. 2; 0 takes the largest logit (of equal ones the smaller id)
  double top_p = 1.0;        // above 0 .. 1: the smallest set of likeliest tokens with this mass
  int32_t top_k = 0;         // 0: off
  double min_p = 0.0;        // 0 .. 1: drop tokens less likely than this share of the likeliest
  uint64_t seed = 0;         // the draw at position i depends on (seed, i) only
};

// Throws Error(kInvalidArgument) naming field, value and bound.
void check(const SamplingParams& params);

}  // namespace moxie
