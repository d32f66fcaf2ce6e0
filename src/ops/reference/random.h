// Deterministic random data for tests, benchmarks and synthetic weights: the value at an index is a
// function of (seed, index) alone, so that any part can be made by any thread.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bf16.h"
#include "ops/tensor.h"

namespace moxie {

// 64 random bits for an index. Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
constexpr uint64_t random_bits(uint64_t seed, uint64_t index) {
  uint64_t z = seed * 0xd1342543de82ef95u + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Uniform in [0, 1), 24 bits.
constexpr float random_uniform(uint64_t seed, uint64_t index) {
  return static_cast<float>(random_bits(seed, index) >> 40) * 0x1p-24f;
}

// Bell-shaped, mean 0, deviation 1, within +-4.9: the sum of eight uniform bytes. Exact integer
// arithmetic up to one product, so the same bits on every machine.
constexpr float random_normal(uint64_t seed, uint64_t index) {
  const uint64_t bits = random_bits(seed, index);
  int sum = 0;
  for (int shift = 0; shift < 64; shift += 8) sum += static_cast<int>((bits >> shift) & 255u);
  return static_cast<float>(sum - 1020) * 0.0047838877f;  // 1 / sqrt(8 * (256^2 - 1) / 12)
}

inline void fill_normal(std::span<float> out, uint64_t seed, float deviation = 1, float mean = 0) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = mean + deviation * random_normal(seed, i);
}

inline void fill_normal(std::span<bf16> out, uint64_t seed, float deviation = 1, float mean = 0) {
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = to_bf16(mean + deviation * random_normal(seed, i));
}

// MXFP4 matrices with every code and scales in [min_scale, max_scale]: bytes, 127 stands for 1.
struct RandomMxfp4 {
  std::vector<uint8_t> codes, scales;
  Mxfp4Matrices view;

  RandomMxfp4(int64_t experts, int64_t n, int64_t k, uint64_t seed, uint8_t min_scale = 118,
              uint8_t max_scale = 122)
      : codes(static_cast<size_t>(experts * n * (k / 2))),
        scales(static_cast<size_t>(experts * n * (k / 32))) {
    for (size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<uint8_t>(random_bits(seed, i) >> 56);
    for (size_t i = 0; i < scales.size(); ++i)
      scales[i] =
          static_cast<uint8_t>(min_scale + random_bits(seed + 1, i) %
                                               (static_cast<uint64_t>(max_scale - min_scale) + 1));
    view = {codes.data(), scales.data(), experts, n, k};
  }
  RandomMxfp4(const RandomMxfp4&) = delete;  // `view` points into this object
  RandomMxfp4& operator=(const RandomMxfp4&) = delete;
};

}  // namespace moxie
