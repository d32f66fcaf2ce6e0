// Cost per token on a vocabulary of 201088: one pass for the largest logit, one for the weights,
// and for top_k and top_p a pass that collects the likeliest (they are rarely more than a few
// hundred).

#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "engine/exp.h"
#include "engine/philox.h"

namespace moxie {
namespace {

constexpr size_t kBlock = 256;

// Larger logit first, of equal ones the smaller id: a total order.
template <class Candidate>
bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

struct Largest {
  float value = -std::numeric_limits<float>::infinity();
  bool has_nan = false;
};

Largest find_largest(std::span<const float> logits) {
  // Eight lanes, so that the maximum does not wait for its own latency.
  constexpr size_t kLanes = 8;
  float best[kLanes];
  std::fill(best, best + kLanes, -std::numeric_limits<float>::infinity());
  unsigned nan[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float x = logits[i + lane];
      best[lane] = x > best[lane] ? x : best[lane];
      nan[lane] |= x != x;
    }
  }
  Largest result;
  for (; i < logits.size(); ++i) {
    result.value = std::max(result.value, logits[i]);
    result.has_nan |= logits[i] != logits[i];
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    result.value = std::max(result.value, best[lane]);
    result.has_nan |= nan[lane] != 0;
  }
  return result;
}

}  // namespace

void check(const SamplingParams& params) {
  // Written so that NaN fails.
  MOXIE_CHECK(params.temperature >= 0 && params.temperature <= 2, kInvalidArgument,
              "temperature must be from 0 to 2, got ", params.temperature);
  MOXIE_CHECK(params.top_p > 0 && params.top_p <= 1, kInvalidArgument,
              "top_p must be above 0 and at most 1, got ", params.top_p);
  MOXIE_CHECK(params.top_k >= 0, kInvalidArgument, "top_k must be 0 (off) or more, got ",
              params.top_k);
  MOXIE_CHECK(params.min_p >= 0 && params.min_p <= 1, kInvalidArgument,
              "min_p must be from 0 to 1, got ", params.min_p);
}

Sampler::Sampler(const SamplingParams& params) : params_(params) {
  check(params);
  // Finite, so that the largest logit's weight stays exp(0 * inverse) = 1.
  if (params.temperature > 0) inverse_temperature_ = std::min(1 / params.temperature, 1e300);
}

int32_t Sampler::sample(std::span<const float> logits, int64_t position, int32_t limit) {
  if (limit > 0 && static_cast<size_t>(limit) < logits.size()) logits = logits.first(limit);
  MOXIE_CHECK(!logits.empty(), kInternal, "no logits at position ", position);
  const Largest largest = find_largest(logits);
  MOXIE_CHECK(!largest.has_nan, kInternal, "the logits at position ", position,
              " contain NaN; `moxie inspect MODEL --check` tells whether the weights are sound");
  MOXIE_CHECK(std::isfinite(largest.value), kInternal, "the largest logit at position ", position,
              " is ", largest.value,
              "; `moxie inspect MODEL --check` tells whether the weights are sound");
  if (params_.temperature == 0 || params_.top_k == 1) {
    return static_cast<int32_t>(std::find(logits.begin(), logits.end(), largest.value) -
                                logits.begin());
  }
  weights_.resize(logits.size());
  block_sums_.resize((logits.size() + kBlock - 1) / kBlock);
  if (params_.top_k > 0 && static_cast<size_t>(params_.top_k) < logits.size()) {
    collect_likeliest(logits, static_cast<size_t>(params_.top_k));
    if (params_.top_p < 1) keep_top_p({}, largest.value);
    weigh_candidates(largest.value);
  } else if (params_.top_p < 1) {
    weigh_all(logits, largest.value);
    keep_top_p(logits, largest.value);
    weigh_candidates(largest.value);
  } else {
    weigh_all(logits, largest.value);
  }
  return draw(uniform_draw(params_.seed, static_cast<uint64_t>(position)));
}

double Sampler::weight(float logit, float largest) const {
  return exp_nonpositive((static_cast<double>(logit) - largest) * inverse_temperature_);
}

// Every token; min_p is applied here unless top_p, which comes first, still has to see the whole
// mass.
void Sampler::weigh_all(std::span<const float> logits, float largest) {
  const double smallest = params_.top_p < 1 ? 0 : params_.min_p;
  const double scale = inverse_temperature_;
  for (size_t block = 0; block < block_sums_.size(); ++block) {
    const size_t begin = block * kBlock, size = std::min(kBlock, logits.size() - begin);
    // A copy of fixed size: the loop that matters has no tail.
    float x[kBlock];
    std::fill(std::copy_n(&logits[begin], size, x), x + kBlock,
              -std::numeric_limits<float>::infinity());
    double w[kBlock];
    for (size_t i = 0; i < kBlock; ++i)
      w[i] = exp_nonpositive((static_cast<double>(x[i]) - largest) * scale);
    for (size_t i = 0; i < kBlock; ++i) w[i] = w[i] >= smallest ? w[i] : 0;
    double sums[4] = {};
    for (size_t i = 0; i < kBlock; ++i) sums[i % 4] += w[i];
    block_sums_[block] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    std::copy_n(w, size, &weights_[begin]);
  }
}

// candidates_ = the `count` largest logits in any order, of equal ones the smaller ids.
void Sampler::collect_likeliest(std::span<const float> logits, size_t count) {
  const size_t size = logits.size();
  candidates_.clear();
  candidates_.reserve(size);
  if (count >= size) {
    for (size_t i = 0; i < size; ++i) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
    return;
  }
  // Collects more than asked for and cuts back when full, each time with a higher threshold. Ids
  // rise, so a later logit equal to the last one kept loses to it.
  const auto cut = [&] {
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(count - 1),
                     candidates_.end(), better<Candidate>);
    candidates_.resize(count);
    return candidates_.back().logit;
  };
  const size_t full = std::min(2 * count + 1024, size);
  float threshold = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < size; ++i) {
    if (!(logits[i] > threshold)) continue;
    candidates_.push_back({logits[i], static_cast<int32_t>(i)});
    if (candidates_.size() == full) threshold = cut();
  }
  if (candidates_.size() > count) cut();
}

// Leaves in candidates_ the smallest set of likeliest tokens that has top_p of the mass: of the
// candidates' mass when `logits` is empty (they are what top_k left), of all weights_ otherwise.
void Sampler::keep_top_p(std::span<const float> logits, float largest) {
  double total = 0;
  if (!logits.empty()) {
    for (const double sum : block_sums_) total += sum;
  }
  for (size_t count = 128;; count *= 8) {
    if (!logits.empty()) collect_likeliest(logits, count);
    std::sort(candidates_.begin(), candidates_.end(), better<Candidate>);
    if (logits.empty()) {
      for (const Candidate& c : candidates_) total += weight(c.logit, largest);
    }
    double mass = 0;
    for (size_t i = 0; i < candidates_.size(); ++i) {
      mass += weight(candidates_[i].logit, largest);
      if (mass < params_.top_p * total) continue;
      candidates_.resize(i + 1);
      return;
    }
    if (logits.empty() || count >= logits.size()) return;  // all of them
  }
}

// weights_ and block_sums_ of candidates_ alone, less those that min_p drops.
void Sampler::weigh_candidates(float largest) {
  std::fill(weights_.begin(), weights_.end(), 0.0);
  std::fill(block_sums_.begin(), block_sums_.end(), 0.0);
  for (const Candidate& c : candidates_) {
    const double w = weight(c.logit, largest);
    if (w < params_.min_p) continue;
    weights_[static_cast<size_t>(c.id)] = w;
    block_sums_[static_cast<size_t>(c.id) / kBlock] = 1;  // to be summed
  }
  for (size_t block = 0; block < block_sums_.size(); ++block) {
    if (block_sums_[block] == 0) continue;
    const size_t end = std::min((block + 1) * kBlock, weights_.size());
    double sums[4] = {};
    for (size_t i = block * kBlock; i < end; ++i) sums[i % 4] += weights_[i];
    block_sums_[block] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
}

// The token in whose share of the total `uniform` falls, in the order of ids.
int32_t Sampler::draw(double uniform) const {
  double total = 0;
  size_t last_block = 0;
  for (size_t block = 0; block < block_sums_.size(); ++block) {
    total += block_sums_[block];
    if (block_sums_[block] > 0) last_block = block;
  }
  double rest = uniform * total;
  size_t block = 0;
  for (; block < last_block && rest >= block_sums_[block]; ++block) rest -= block_sums_[block];
  // Should rounding let `rest` survive the block, its last token with any weight is the one.
  size_t drawn = 0;
  const size_t end = std::min((block + 1) * kBlock, weights_.size());
  for (size_t i = block * kBlock; i < end; ++i) {
    if (weights_[i] == 0) continue;
    drawn = i;
    rest -= weights_[i];
    if (rest < 0) break;
  }
  return static_cast<int32_t>(drawn);
}

}  // namespace moxie
