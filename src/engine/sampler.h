// Draws tokens from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "moxie/sampling.h"

namespace moxie {

// Deterministic: the same logits, parameters and position give the same token on every machine.
class Sampler {
 public:
  explicit Sampler(const SamplingParams& params);  // throws as check() does
  // position: index of the token in its sequence; the draw depends on (seed, position) only.
  // Ids at and above `limit` (0: none) are never drawn. Throws Error(kInternal) naming position
  // when a logit is NaN.
  int32_t sample(std::span<const float> logits, int64_t position, int32_t limit = 0);

 private:
  SamplingParams params_;
  std::vector<std::pair<float, int32_t>> candidates_;
};

}  // namespace moxie
