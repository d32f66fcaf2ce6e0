// Rotary frequencies of gpt-oss: YaRN without rounding of the ramp's ends, in the float32 chain of
// the reference.
#pragma once

#include <span>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace moxie {

struct RopeFrequencies {
  std::vector<float> inv_freq;  // [head_dim / 2]
  float concentration = 1;      // multiplies cos and sin
};
RopeFrequencies rope_frequencies(const GptOssConfig& config);

// cos and sin of one position, times the concentration: angle, cos, sin and product each in
// float32.
void rope_row(const RopeFrequencies& frequencies, int64_t position, std::span<float> cos,
              std::span<float> sin);

}  // namespace moxie
