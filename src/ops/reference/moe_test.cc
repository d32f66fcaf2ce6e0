#include "ops/reference/moe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/check.h"
#include "mxfp4/block.h"
#include "ops/reference/random.h"
#include "ops/reference/reference_backend.h"

namespace moxie {
namespace {

constexpr int64_t kExperts = 5, kChosen = 3, kHidden = 96, kInner = 64;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Problem {
  int64_t rows;
  RandomMxfp4 gate_up{kExperts, 2 * kInner, kHidden, 21}, down{kExperts, kHidden, kInner, 23};
  std::vector<bf16> x, residual, logits, out;
  std::vector<float> gate_up_bias = std::vector<float>(kExperts * 2 * kInner),
                     down_bias = std::vector<float>(kExperts * kHidden), weights;
  std::vector<int32_t> ids;
  MoeArgs args;

  explicit Problem(int64_t num_rows)
      : rows(num_rows),
        x(static_cast<size_t>(rows * kHidden)),
        residual(x.size()),
        logits(static_cast<size_t>(rows * kExperts)),
        out(x.size()),
        weights(static_cast<size_t>(rows * kChosen)),
        ids(weights.size()) {
    fill_normal(std::span(x), 31);
    fill_normal(std::span(residual), 32);
    fill_normal(std::span(logits), 33);
    fill_normal(std::span(gate_up_bias), 34);
    fill_normal(std::span(down_bias), 35);
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<int32_t>(random_bits(36, i) % kExperts);
      weights[i] = random_uniform(37, i);
    }
    args.x = {x.data(), DType::kBF16, rows, kHidden, kHidden};
    args.experts_per_token = kChosen;
    args.expert_ids = ids;
    args.weights = weights;
    args.gate_up = gate_up.view;
    args.down = down.view;
    args.gate_up_bias = gate_up_bias.data();
    args.down_bias = down_bias.data();
    args.residual = {residual.data(), DType::kBF16, rows, kHidden, kHidden};
    args.out = {out.data(), DType::kBF16, rows, kHidden, kHidden};
  }

  std::vector<bf16> run_backend() {
    make_reference_backend(DType::kBF16, 2)->moe(args);
    return out;
  }
};

void expect_equal(const std::vector<bf16>& got, const std::vector<Bounded>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(double{to_float(got[i])}, want[i].value) << i;
}

// Every number of e4m3, from its bits.
double e4m3_value(int bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return bits >= 128 ? -magnitude : magnitude;
}

TEST(E4m3, RoundsToTheNearestOfAllNumbersAndToEven) {
  for (int bits = 0; bits < 126; ++bits) {
    const double low = e4m3_value(bits), high = e4m3_value(bits + 1), middle = (low + high) / 2;
    EXPECT_EQ(round_to_e4m3(low), low);
    EXPECT_EQ(round_to_e4m3(middle), bits % 2 == 0 ? low : high) << middle;
    EXPECT_EQ(round_to_e4m3(std::nextafter(middle, 0)), low);
    EXPECT_EQ(round_to_e4m3(std::nextafter(middle, 1000)), high);
    EXPECT_EQ(round_to_e4m3(-middle), -round_to_e4m3(middle));
  }
  EXPECT_EQ(round_to_e4m3(1e9), 448);
  EXPECT_EQ(round_to_e4m3(-std::numeric_limits<double>::infinity()), -448);
  EXPECT_TRUE(std::isnan(round_to_e4m3(std::numeric_limits<double>::quiet_NaN())));
  const Bounded across = rounded_to_e4m3({1.0624, 0.001});  // the middle between 1 and 1.125
  EXPECT_EQ(across.value, 1);
  EXPECT_EQ(across.bound, 0.125);
  EXPECT_EQ(rounded_to_e4m3({1.05, 0.001}).bound, 0);
}

TEST(E4m3, ARowsLargestComesTo448) {
  const E4m3Row row = e4m3_row(std::vector<float>{0.5f, -3.5f, 0.0f, 0.01f});
  EXPECT_EQ(row.factor, 3.5 / 448);
  EXPECT_EQ(row.values, (std::vector<float>{64, -448, 0, 1.25f}));
  EXPECT_EQ(e4m3_row(std::vector<float>(4)).values, std::vector<float>(4));
  EXPECT_TRUE(std::isnan(
      e4m3_row(std::vector<float>{1, std::numeric_limits<float>::infinity()}).values[0]));
}

// Sums are cut below 2^-12 of the largest term, unless all are multiples of that.
TEST(E4m3, SumsHaveBoundsWhereTheyAreCut) {
  std::vector<Bounded> x(64, {1, 0});
  std::vector<float> w(64, 1);
  EXPECT_EQ(e4m3_dot(x, w).value, 64);
  EXPECT_EQ(e4m3_dot(x, w).bound, 0);
  w[3] = 0x1p-20f;
  const Bounded cut = e4m3_dot(x, w);
  EXPECT_EQ(cut.value, 63 + 0x1p-20);
  EXPECT_GE(cut.bound, 0x1p-20);
  EXPECT_LE(cut.bound, 70 * 0x1p-7);
  x[5].bound = 0.5;
  EXPECT_GE(e4m3_dot(x, w).bound, 0.5);
}

TEST(ReferenceMoe, InFp8IsNearBf16) {
  Problem p(40);
  const std::vector<Bounded> bf16_rows = reference_moe(p.args, 2);
  p.args.activations = Activations::kFp8;
  std::vector<float> fp8_rows;
  for (const Bounded& value : reference_moe(p.args, 2))
    fp8_rows.push_back(static_cast<float>(value.value));
  const double difference = relative_rms(fp8_rows, bf16_rows);
  EXPECT_GT(difference, 0x1p-8);
  EXPECT_LT(difference, 0x1p-4);
}

// The backend's float64 sums in another order; reference_test.cc holds that to the formula.
TEST(ReferenceMoe, IsWhatTheReferenceBackendComputes) {
  for (const int64_t rows : {0, 1, 7, 40}) {
    Problem p(rows);
    check(p.args);
    expect_equal(p.run_backend(), reference_moe(p.args, 2));
    p.args.residual = {};
    expect_equal(p.run_backend(), reference_moe(p.args, 2));
    p.args.gate_up_bias = p.args.down_bias = nullptr;
    expect_equal(p.run_backend(), reference_moe(p.args, 2));
    std::fill(p.ids.begin(), p.ids.end(), 3);
    expect_equal(p.run_backend(), reference_moe(p.args, 2));
  }
}

// Sums in float32, one product after the other: a plain implementation that must stay within.
TEST(ReferenceMoe, AFloat32ImplementationIsWithinItsBoundsAndTheBoundsAreNarrow) {
  Problem p(12);
  const std::vector<Bounded> want = reference_moe(p.args, 2);
  std::vector<float> row(static_cast<size_t>(kHidden));
  const auto dot = [&](const Mxfp4Matrices& m, int64_t e, int64_t f, const bf16* x, float bias) {
    mxfp4::decode_row(m.expert_codes(e) + f * m.k / 2, m.expert_scales(e) + f * m.k / 32, m.k,
                      row.data());
    float sum = 0;
    for (int64_t i = 0; i < m.k; ++i) sum += to_float(x[i]) * row[static_cast<size_t>(i)];
    return sum + bias;
  };
  int64_t exact = 0;
  for (int64_t r = 0; r < p.rows; ++r) {
    std::vector<float> sums(kHidden);
    for (int64_t i = 0; i < kChosen; ++i) {
      const auto slot = static_cast<size_t>(r * kChosen + i);
      const int64_t e = p.ids[slot];
      std::vector<bf16> a(kInner);
      for (int64_t j = 0; j < kInner; ++j) {
        const float* bias = p.gate_up_bias.data() + e * 2 * kInner + 2 * j;
        const float g =
            std::min(dot(p.gate_up.view, e, 2 * j, p.x.data() + r * kHidden, bias[0]), 7.0f);
        const float u = std::clamp(
            dot(p.gate_up.view, e, 2 * j + 1, p.x.data() + r * kHidden, bias[1]), -7.0f, 7.0f);
        a[static_cast<size_t>(j)] = to_bf16(g / (1 + std::exp(-1.702f * g)) * (u + 1));
      }
      for (int64_t f = 0; f < kHidden; ++f)
        sums[static_cast<size_t>(f)] += round_to_bf16(
            dot(p.down.view, e, f, a.data(), p.down_bias[static_cast<size_t>(e * kHidden + f)]) *
            p.weights[slot]);
    }
    for (int64_t f = 0; f < kHidden; ++f) {
      const auto i = static_cast<size_t>(r * kHidden + f);
      const float got =
          round_to_bf16(to_float(p.residual[i]) + round_to_bf16(sums[static_cast<size_t>(f)]));
      ASSERT_TRUE(is_within(got, want[i])) << got << " " << want[i].value << " " << want[i].bound;
      // One ulp of bf16 more is out of bounds nearly everywhere.
      exact += is_within(got + (std::abs(got) + 1) * 0x1p-5f, want[i]) ? 0 : 1;
    }
  }
  EXPECT_GT(exact, p.rows * kHidden * 9 / 10);
}

// Small integers: the first product is exact, so of its bounds only sigmoid's is left, and a result
// that is off by one ulp of bf16 in one activation is seen.
TEST(ReferenceMoe, BoundsStayNarrowOverLongSumsOfSmallIntegers) {
  constexpr int64_t kLong = 1440, kRows = 2;
  const RandomMxfp4 gate_up(1, 2 * kLong, kLong, 41, 119, 120), down(1, kLong, kLong, 43, 119, 120);
  std::vector<bf16> x(kRows * kLong), out(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = to_bf16(static_cast<float>(static_cast<int>(random_bits(45, i) % 5) - 2));
  const std::vector<int32_t> ids(kRows);
  const std::vector<float> weights(kRows, 0.5f);
  MoeArgs args;
  args.x = {x.data(), DType::kBF16, kRows, kLong, kLong};
  args.experts_per_token = 1;
  args.expert_ids = ids;
  args.weights = weights;
  args.gate_up = gate_up.view;
  args.down = down.view;
  args.out = {out.data(), DType::kBF16, kRows, kLong, kLong};
  check(args);
  const std::vector<Bounded> want = reference_moe(args, 2);
  double bounds = 0, values = 0;
  for (const Bounded& element : want) {
    bounds += element.bound;
    values += std::abs(element.value);
  }
  EXPECT_LT(bounds, 0.05 * values);
  // A lost block of 32 shows in the relative error, and a tipped rounding does not.
  make_reference_backend(DType::kBF16, 2)->moe(args);
  std::vector<float> got;
  for (const bf16 value : out) got.push_back(to_float(value));
  EXPECT_EQ(relative_rms(got, want), 0);
  got[5] *= 1 + 0x1p-7f;
  EXPECT_LT(relative_rms(got, want), 0x1p-9);
  std::vector<bf16> without = x;
  std::fill_n(without.begin(), 32, bf16{});
  args.x.data = without.data();
  make_reference_backend(DType::kBF16, 2)->moe(args);
  got.clear();
  for (const bf16 value : out) got.push_back(to_float(value));
  EXPECT_GT(relative_rms(std::span(got).first(kLong), std::span(want).first(kLong)), 0x1p-6);
}

// What is left out must not be touched: its weights are NaN, its ids lead nowhere.
TEST(ReferenceMoe, ForeignExpertsAreSkippedByTheOracleAndTheBackend) {
  Problem all(9);
  // Zero weight is the same as absent, but for the reading.
  const std::vector<int32_t> ids = all.ids;
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 1 || ids[i] > 3) all.weights[i] = 0;
  const std::vector<Bounded> want = reference_moe(all.args, 2);

  Problem some(9);
  some.args.first_expert = 1;
  some.args.gate_up = {some.gate_up.view.expert_codes(1), some.gate_up.view.expert_scales(1), 3,
                       2 * kInner, kHidden};
  some.args.down = {some.down.view.expert_codes(1), some.down.view.expert_scales(1), 3, kHidden,
                    kInner};
  some.args.gate_up_bias = some.gate_up_bias.data() + 2 * kInner;
  some.args.down_bias = some.down_bias.data() + kHidden;
  const int32_t sentinels[] = {-1, 0, 4, INT32_MIN, INT32_MAX, 5};
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 1 || ids[i] > 3) {
      some.ids[i] = sentinels[i % 6];
      some.weights[i] = kNaN;
    }
  check(some.args);
  EXPECT_THROW(reference_moe(some.args, 2), Error);
  EXPECT_THROW(some.run_backend(), Error);
  some.args.foreign = ForeignExperts::kSkip;
  const std::vector<Bounded> got = reference_moe(some.args, 2);
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].value, want[i].value) << i;
    ASSERT_LE(got[i].bound, want[i].bound) << i;
  }
  expect_equal(some.run_backend(), got);
  // Nobody at all: the residual alone.
  std::fill(some.ids.begin(), some.ids.end(), -1);
  EXPECT_EQ(some.run_backend(), some.residual);
  some.args.residual = {};
  EXPECT_EQ(some.run_backend(), std::vector<bf16>(some.out.size()));
}

TEST(ReferenceMoe, LogitsGiveWhatTheirRoutingGives) {
  Problem given(11), from_logits(11);
  make_reference_backend(DType::kBF16, 1)
      ->route({.logits = {given.logits.data(), DType::kBF16, 11, kExperts, kExperts},
               .experts_per_token = kChosen,
               .expert_ids = given.ids,
               .weights = given.weights,
               .lists = {}});
  from_logits.args.logits = {from_logits.logits.data(), DType::kBF16, 11, kExperts, kExperts};
  from_logits.args.expert_ids = {};
  from_logits.args.weights = {};
  check(from_logits.args);
  expect_equal(given.run_backend(), reference_moe(from_logits.args, 2));
  EXPECT_EQ(from_logits.run_backend(), given.run_backend());
}

TEST(ReferenceMoe, AScaleOf255GivesNaNToTheRowsOfItsExpertOnly) {
  Problem p(6);
  p.gate_up.scales[static_cast<size_t>(2 * 2 * kInner * kHidden / 32)] = 255;
  const std::vector<Bounded> want = reference_moe(p.args, 1);
  for (int64_t row = 0; row < p.rows; ++row) {
    bool meets = false;
    for (int64_t i = 0; i < kChosen; ++i)
      meets |= p.ids[static_cast<size_t>(row * kChosen + i)] == 2;
    for (int64_t f = 0; f < kHidden; ++f)
      EXPECT_EQ(std::isnan(want[static_cast<size_t>(row * kHidden + f)].value), meets) << row;
  }
}

}  // namespace
}  // namespace moxie
