#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "engine/exp.h"
#include "engine/philox.h"
#include "moxie/error.h"

namespace moxie {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(size_t size, uint32_t seed, float spread = 3) {
  std::mt19937 random(seed);
  std::vector<float> logits(size);
  for (float& x : logits) x = spread * (static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f) * 2;
  return logits;
}

// The definition, as slowly and plainly as it can be written.
std::vector<double> exact_distribution(const std::vector<float>& logits,
                                       const SamplingParams& params) {
  std::vector<int> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  std::vector<double> p(logits.size());
  for (size_t i = 0; i < p.size(); ++i)
    p[i] = std::exp((double{logits[i]} - logits[order[0]]) / params.temperature);
  size_t keep = order.size();
  if (params.top_k > 0) keep = std::min<size_t>(keep, params.top_k);
  double total = 0;
  for (size_t i = 0; i < keep; ++i) total += p[order[i]];
  if (params.top_p < 1) {
    double mass = 0;
    for (size_t i = 0; i < keep; ++i) {
      mass += p[order[i]];
      if (mass >= params.top_p * total) keep = i + 1;
    }
  }
  std::vector<double> result(logits.size(), 0);
  double kept = 0;
  for (size_t i = 0; i < keep; ++i) {
    if (p[order[i]] < params.min_p) continue;
    result[order[i]] = p[order[i]];
    kept += p[order[i]];
  }
  for (double& x : result) x /= kept;
  return result;
}

TEST(Philox, MatchesThePublishedVectors) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, DrawsAreInTheUnitIntervalAndUniform) {
  std::array<int, 16> bins{};
  for (uint64_t position = 0; position < 160000; ++position) {
    const double u = uniform_draw(42, position);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bins[static_cast<size_t>(u * 16)];
  }
  double chi_square = 0;
  for (const int count : bins) chi_square += (count - 10000.0) * (count - 10000.0) / 10000.0;
  EXPECT_LT(chi_square, 37.7);  // 15 degrees of freedom, one in a thousand
}

TEST(ExpNonpositive, StaysWithinItsErrorBound) {
  std::mt19937_64 random(1);
  const auto try_one = [](double x) {
    const long double exact = std::exp(static_cast<long double>(x));
    ASSERT_LE(std::abs(static_cast<long double>(exp_nonpositive(x)) - exact), exact * 0x1p-51L)
        << "x = " << x;
  };
  for (int i = 0; i < 200000; ++i) {
    const double unit = static_cast<double>(random() >> 11) * 0x1p-53;
    try_one(-700 * unit);
    try_one(-unit);
    try_one(-unit * 0x1p-20);
  }
  EXPECT_EQ(exp_nonpositive(0), 1);
  EXPECT_EQ(exp_nonpositive(-0.0), 1);
  EXPECT_EQ(exp_nonpositive(-std::numeric_limits<double>::infinity()), 0);
  EXPECT_EQ(exp_nonpositive(-1e300), 0);
  EXPECT_GT(exp_nonpositive(-707.9), 0);
}

TEST(ExpNonpositive, GivesTheseBitsOnEveryMachine) {
  EXPECT_EQ(std::bit_cast<uint64_t>(exp_nonpositive(-1.0)), 0x3fd78b56362cef38u);
  uint64_t hash = 0;
  for (int i = 0; i < 4096; ++i)
    hash = hash * 0x9e3779b97f4a7c15u + std::bit_cast<uint64_t>(exp_nonpositive(-i * 0.01));
  EXPECT_EQ(hash, 12297679896445444062u);
}

TEST(Sampler, TemperatureZeroTakesTheLargestAndOfEqualOnesTheSmallerId) {
  Sampler sampler({.temperature = 0});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 5, 3}, 0), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 5, 5, 5}, 0), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-3}, 7), 0);
  std::vector<float> logits = random_logits(201088, 3);
  logits[200001] = logits[777] = 99;
  EXPECT_EQ(sampler.sample(logits, 0), 777);
}

TEST(Sampler, ATinyTemperatureIsNoDivisionByZero) {
  Sampler sampler({.temperature = 1e-300});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 1.0001f, -kInfinity}, 0), 1);
}

struct Case {
  const char* name;
  SamplingParams params;
};

class SamplerDistribution : public testing::TestWithParam<Case> {};

TEST_P(SamplerDistribution, IsTheExactOne) {
  // Twelve tokens, some of them equal, two impossible.
  const std::vector<float> logits = {1, 2, 0, 2, -1, 3, 0.5f, -kInfinity, 1, 2.5f, -kInfinity, 0};
  SamplingParams params = GetParam().params;
  params.seed = 11;
  const std::vector<double> want = exact_distribution(logits, params);
  Sampler sampler(params);
  constexpr int kDraws = 100000;
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sampler.sample(logits, i))];
  double chi_square = 0;
  int degrees = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (want[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " was filtered out";
      continue;
    }
    const double expected = want[i] * kDraws;
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++degrees;
  }
  // A thousandth's quantile by Wilson and Hilferty; with a fixed seed this either holds or not.
  const double d = degrees;
  const double bound =
      degrees == 0 ? 0 : d * std::pow(1 - 2 / (9 * d) + 3.09 * std::sqrt(2 / (9 * d)), 3);
  EXPECT_LE(chi_square, bound) << degrees << " degrees of freedom";
}

INSTANTIATE_TEST_SUITE_P(
    Filters, SamplerDistribution,
    testing::Values(Case{"Plain", {}}, Case{"Hot", {.temperature = 2}},
                    Case{"Cold", {.temperature = 0.3}}, Case{"TopK1", {.top_k = 1}},
                    // The third and fourth likeliest are equal: the smaller id stays.
                    Case{"TopKCutsATie", {.top_k = 3}}, Case{"TopKAll", {.top_k = 12}},
                    Case{"TopKMoreThanAll", {.top_k = 1000}}, Case{"TopP", {.top_p = 0.8}},
                    Case{"TopPTiny", {.top_p = 1e-9}}, Case{"TopPAlmostAll", {.top_p = 0.999999}},
                    Case{"MinP", {.min_p = 0.2}}, Case{"MinPOne", {.min_p = 1}},
                    Case{"TopKThenTopP", {.top_p = 0.7, .top_k = 4}},
                    Case{"TopPThenMinP", {.top_p = 0.9, .min_p = 0.5}},
                    Case{"AllOfThem",
                         {.temperature = 0.7, .top_p = 0.95, .top_k = 6, .min_p = 0.1}}),
    [](const auto& case_info) { return case_info.param.name; });

TEST(Sampler, TopPKeepsTheTokenThatReachesTheMass) {
  // Four equal tokens: a mass of one half is reached by exactly two of them.
  const std::vector<float> logits(4, 0.0f);
  for (const auto& [top_p, kept] : std::map<double, int>{{0.25, 1}, {0.5, 2}, {0.51, 3}, {1, 4}}) {
    Sampler sampler({.top_p = top_p});
    int32_t largest = 0;
    for (int i = 0; i < 2000; ++i) largest = std::max(largest, sampler.sample(logits, i));
    EXPECT_EQ(largest, kept - 1) << "top_p " << top_p;
  }
}

// The whole vocabulary, so that the likeliest are collected in several rounds.
TEST(Sampler, FindsTheSameSetAsASortOfTheWholeVocabulary) {
  const std::vector<float> logits = random_logits(201088, 9, 4);
  for (const SamplingParams& params :
       {SamplingParams{.top_k = 40}, SamplingParams{.top_k = 5000}, SamplingParams{.top_p = 0.0001},
        SamplingParams{.top_p = 0.05}, SamplingParams{.top_p = 0.9},
        SamplingParams{.top_p = 0.9, .top_k = 3000}}) {
    const std::vector<double> want = exact_distribution(logits, params);
    Sampler sampler(params);
    for (int i = 0; i < 50; ++i) {
      const int32_t token = sampler.sample(logits, i);
      // The draw is the inverse of the cumulated distribution in the order of ids.
      const double u = uniform_draw(0, static_cast<uint64_t>(i));
      double below = 0;
      for (int32_t id = 0; id < token; ++id) below += want[static_cast<size_t>(id)];
      ASSERT_LE(below, u + 1e-9);
      ASSERT_GE(below + want[static_cast<size_t>(token)], u - 1e-9);
    }
  }
}

TEST(Sampler, AFilterThatRemovesNothingChangesNothing) {
  const std::vector<float> logits = random_logits(5000, 5);
  Sampler plain({}), filtered({.top_p = 1 - 0x1p-53, .top_k = 5000, .min_p = 1e-300});
  for (int i = 0; i < 2000; ++i)
    ASSERT_EQ(plain.sample(logits, i), filtered.sample(logits, i)) << "position " << i;
}

TEST(Sampler, DependsOnSeedAndPositionOnly) {
  const std::vector<float> logits = random_logits(1000, 1);
  Sampler a({.seed = 7}), b({.seed = 7}), other({.seed = 8});
  std::vector<int32_t> forward, backward;
  for (int i = 0; i < 200; ++i) forward.push_back(a.sample(logits, i));
  for (int i = 199; i >= 0; --i) backward.insert(backward.begin(), b.sample(logits, i));
  EXPECT_EQ(forward, backward);
  int same = 0;
  for (int i = 0; i < 200; ++i) same += other.sample(logits, i) == forward[static_cast<size_t>(i)];
  EXPECT_LT(same, 20);
  // Positions past 2^32 are positions of their own.
  EXPECT_NE(uniform_draw(7, 1), uniform_draw(7, 1 + (uint64_t{1} << 32)));
  EXPECT_NE(uniform_draw(7, 1), uniform_draw(7 + (uint64_t{1} << 32), 1));
}

TEST(Sampler, GivesTheseTokensOnEveryMachine) {
  const std::vector<float> logits = random_logits(201088, 2, 6);
  std::vector<int32_t> tokens;
  Sampler plain({.temperature = 0.8, .seed = 2024});
  Sampler filtered({.temperature = 0.8, .top_p = 0.3, .top_k = 400, .min_p = 0.01, .seed = 2024});
  for (int i = 0; i < 4; ++i) tokens.push_back(plain.sample(logits, i));
  for (int i = 0; i < 4; ++i) tokens.push_back(filtered.sample(logits, i));
  EXPECT_EQ(tokens, (std::vector<int32_t>{54906, 87880, 9974, 97036, 61363, 93107, 15064, 99822}));
}

TEST(Sampler, NeverDrawsAtOrAboveTheLimit) {
  std::vector<float> logits(300, 0.0f);
  logits[299] = 50;
  for (const SamplingParams& params : {SamplingParams{}, SamplingParams{.temperature = 0},
                                       SamplingParams{.top_k = 5}, SamplingParams{.top_p = 0.5}}) {
    Sampler sampler(params);
    for (int i = 0; i < 100; ++i) ASSERT_LT(sampler.sample(logits, i, 299), 299);
    EXPECT_EQ(sampler.sample(logits, 0, 1), 0);
  }
  EXPECT_EQ(Sampler({.temperature = 0}).sample(logits, 0, 0), 299) << "0 means no limit";
  EXPECT_EQ(Sampler({.temperature = 0}).sample(logits, 0, 1000), 299);
}

TEST(Sampler, RefusesBrokenLogitsAndNamesThePosition) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // In the lanes and in the tail behind them.
  for (const size_t at : {0, 3, 8, 15, 16, 18}) {
    std::vector<float> logits(19, 1.0f);
    logits[at] = nan;
    for (const double temperature : {0.0, 1.0}) {
      Sampler sampler({.temperature = temperature});
      try {
        sampler.sample(logits, 1234);
        FAIL() << "NaN at " << at;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInternal);
        EXPECT_NE(std::string(error.what()).find("position 1234"), std::string::npos);
      }
    }
  }
  Sampler sampler({});
  EXPECT_THROW(sampler.sample(std::vector<float>{1, kInfinity}, 0), Error);
  EXPECT_THROW(sampler.sample(std::vector<float>{-kInfinity, -kInfinity}, 0), Error);
  EXPECT_THROW(sampler.sample({}, 0), Error);
  // What lies at and above the limit is not looked at.
  EXPECT_EQ(sampler.sample(std::vector<float>{1, nan}, 0, 1), 0);
}

TEST(Sampler, ChecksItsParameters) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const SamplingParams& params :
       {SamplingParams{.temperature = -0.1}, SamplingParams{.temperature = 2.1},
        SamplingParams{.temperature = nan}, SamplingParams{.top_p = 0},
        SamplingParams{.top_p = 1.1}, SamplingParams{.top_p = nan}, SamplingParams{.top_k = -1},
        SamplingParams{.min_p = -0.1}, SamplingParams{.min_p = 1.1}, SamplingParams{.min_p = nan}})
    EXPECT_THROW(Sampler{params}, Error);
}

}  // namespace
}  // namespace moxie
