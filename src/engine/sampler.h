// Draws tokens from logits.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "moxie/sampling.h"

namespace moxie {

// Deterministic: the same logits, parameters and position give the same token on every machine: the
// random numbers, the exponential and the order of every sum are moxie's own.
//
// A filter that removes nothing changes nothing: the tokens that remain are always walked in the
// order of their ids. Memory is taken at the first call for a vocabulary size, never afterwards.
class Sampler {
 public:
  explicit Sampler(const SamplingParams& params);  // throws as check() does

  // position: index of the token in its sequence; the draw depends on (seed, position) only.
  // Ids at and above `limit` (0: none) are never drawn. Throws Error(kInternal) naming position
  // when a logit is NaN or +infinity, or all are -infinity.
  int32_t sample(std::span<const float> logits, int64_t position, int32_t limit = 0);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  double weight(float logit, float largest) const;
  void weigh_all(std::span<const float> logits, float largest);
  void collect_likeliest(std::span<const float> logits, size_t count);
  void keep_top_p(std::span<const float> logits, float largest);
  void weigh_candidates(float largest);
  int32_t draw(double uniform) const;

  SamplingParams params_;
  double inverse_temperature_ = 1;
  std::vector<double> weights_;     // exp((logit - largest) / temperature); 0: filtered out
  std::vector<double> block_sums_;  // of kBlock weights each
  std::vector<Candidate> candidates_;
};

}  // namespace moxie
