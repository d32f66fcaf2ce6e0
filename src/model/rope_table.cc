#include "model/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace moxie {
namespace {

// The (fractional) index of the frequency that turns `rotations` times within the original context.
double correction_index(const GptOssConfig& config, double rotations) {
  return static_cast<double>(config.head_dim) *
         std::log(static_cast<double>(config.yarn_original_context) /
                  (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(config.rope_theta));
}

}  // namespace

RopeFrequencies rope_frequencies(const GptOssConfig& config) {
  const int64_t half = config.head_dim / 2;
  RopeFrequencies result;
  result.inv_freq.resize(static_cast<size_t>(half));

  double low = 0, high = 0;
  if (config.rope_scaling == RopeScaling::kYarn) {
    low = correction_index(config, config.yarn_beta_fast);
    high = correction_index(config, config.yarn_beta_slow);
    if (config.yarn_truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, static_cast<double>(config.head_dim - 1));
    if (low == high) high += 0.001;
    const double usual = config.yarn_factor > 1 ? 0.1 * std::log(config.yarn_factor) + 1 : 1;
    result.concentration = static_cast<float>(config.yarn_attention_factor.value_or(usual));
  }

  // From here on every operation is rounded to float32, as the reference implementations run it.
  const float first = static_cast<float>(low), length = static_cast<float>(high - low);
  for (int64_t j = 0; j < half; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(config.head_dim);
    const float frequency = static_cast<float>(
        std::pow(static_cast<double>(static_cast<float>(config.rope_theta)), exponent));
    float inv_freq = 1.0f / frequency;
    if (config.rope_scaling == RopeScaling::kYarn) {
      const float interpolated = 1.0f / (static_cast<float>(config.yarn_factor) * frequency);
      const float ramp = std::clamp((static_cast<float>(j) - first) / length, 0.0f, 1.0f);
      const float kept = 1.0f - ramp;
      inv_freq = interpolated * (1.0f - kept) + inv_freq * kept;
    }
    result.inv_freq[static_cast<size_t>(j)] = inv_freq;
  }
  return result;
}

void rope_row(const RopeFrequencies& frequencies, int64_t position, std::span<float> cos,
              std::span<float> sin) {
  MOXIE_CHECK_INTERNAL(cos.size() == frequencies.inv_freq.size() && sin.size() == cos.size());
  for (size_t j = 0; j < cos.size(); ++j) {
    const float angle = static_cast<float>(position) * frequencies.inv_freq[j];
    // float64 functions rounded to float32: the same bits under every C library.
    cos[j] = static_cast<float>(std::cos(static_cast<double>(angle))) * frequencies.concentration;
    sin[j] = static_cast<float>(std::sin(static_cast<double>(angle))) * frequencies.concentration;
  }
}

}  // namespace moxie
