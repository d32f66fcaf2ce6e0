#include "ops/reference/grouped_gemm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "mxfp4/weight_layout.h"
#include "ops/reference/random.h"

namespace moxie {
namespace {

constexpr int64_t kExperts = 3, kN = 48, kK = 96, kXRows = 5, kOutRows = 9;

struct Problem {
  RandomMxfp4 weight{kExperts, kN, kK, 4};
  std::vector<bf16> x = std::vector<bf16>(kXRows * kK), out = std::vector<bf16>(kOutRows * kN);
  std::vector<float> bias = std::vector<float>(kExperts * kN);
  std::vector<int32_t> row_offsets = {0, 2, 2, 6};       // nobody for expert 1
  std::vector<int32_t> gather = {4, 0, 1, -1, 4, 2, 9};  // the last is behind row_offsets
  std::vector<int32_t> scatter = {8, 1, 0, 2, kOutRows, 5, 3};
  std::vector<float> row_weights = {0.5f, -2, 1, 1, 1, 0.25f, 3};
  GroupedGemmArgs args;

  Problem() {
    fill_normal(std::span(x), 6);
    fill_normal(std::span(bias), 7);
    args.rows = 7;
    args.x = {x.data(), DType::kBF16, kXRows, kK, kK};
    args.weight = weight.view;
    args.bias = bias.data();
    args.row_offsets = row_offsets;
    args.gather = gather;
    args.scatter = scatter;
    args.row_weights = row_weights;
    args.out = {out.data(), DType::kBF16, kOutRows, kN, kN};
  }

  // x[from, :] * weight[e, f, :]^T + bias, element by element.
  double z(int64_t e, int64_t f, int64_t from) const {
    std::vector<bf16> row(kK);
    mxfp4::decode_row(weight.view.expert_codes(e) + f * kK / 2,
                      weight.view.expert_scales(e) + f * kK / 32, kK, row.data());
    double sum = args.bias == nullptr ? 0 : bias[static_cast<size_t>(e * kN + f)];
    for (int64_t i = 0; i < kK; ++i)
      sum += double{to_float(x[static_cast<size_t>(from * kK + i)])} *
             double{to_float(row[static_cast<size_t>(i)])};
    return sum;
  }
};

TEST(ReferenceGroupedGemm, GathersScattersWeighsAndSkips) {
  Problem p;
  check(p.args);
  const std::vector<Bounded> got = reference_grouped_gemm(p.args, 2);
  ASSERT_EQ(got.size(), static_cast<size_t>(kOutRows * kN));
  // Entries 0, 1 (expert 0), 2 and 5 (expert 2) are done; 3 reads no row, 4 writes none, 6 is
  // behind.
  struct Done {
    int64_t e, from, to;
    double weight;
  };
  const Done kDone[] = {{0, 4, 8, 0.5}, {0, 0, 1, -2}, {2, 1, 0, 1}, {2, 2, 5, 0.25}};
  std::vector<bool> written(kOutRows);
  for (const Done& d : kDone) {
    written[static_cast<size_t>(d.to)] = true;
    for (int64_t f = 0; f < kN; ++f) {
      const Bounded& element = got[static_cast<size_t>(d.to * kN + f)];
      EXPECT_EQ(element.value, double{round_to(DType::kBF16, p.z(d.e, f, d.from) * d.weight)});
      EXPECT_GE(element.bound, 0);
    }
  }
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(got[i].bound < 0, !written[i / static_cast<size_t>(kN)]) << i;
}

TEST(ReferenceGroupedGemm, WithoutListsEntriesAreRows) {
  Problem p;
  p.args.rows = kXRows;
  p.row_offsets = {0, 2, 3, 4};
  p.args.gather = p.args.scatter = {};
  p.args.row_weights = {};
  p.args.bias = nullptr;
  p.args.out.rows = kXRows;
  check(p.args);
  const std::vector<Bounded> got = reference_grouped_gemm(p.args, 1);
  const int64_t expert_of[] = {0, 0, 1, 2};
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t f = 0; f < kN; ++f)
      EXPECT_EQ(got[static_cast<size_t>(r * kN + f)].value,
                double{round_to(DType::kBF16, p.z(expert_of[r], f, r))});
  for (int64_t f = 0; f < kN; ++f) EXPECT_LT(got[static_cast<size_t>(4 * kN + f)].bound, 0);
}

TEST(ReferenceGroupedGemm, SwigluAndThePrepackedLayout) {
  Problem p;
  p.args.row_weights = {};
  p.args.activation = GroupedGemmArgs::Activation::kSwiglu;
  p.args.limit = 2;
  p.args.out.cols = kN / 2;
  check(p.args);
  const std::vector<Bounded> got = reference_grouped_gemm(p.args, 2);
  for (int64_t j = 0; j < kN / 2; ++j) {
    const double g = std::min(p.z(2, 2 * j, 2), 2.0);
    const double u = std::clamp(p.z(2, 2 * j + 1, 2), -2.0, 2.0);
    EXPECT_EQ(got[static_cast<size_t>(5 * kN / 2 + j)].value,
              double{round_to(DType::kBF16, g / (1 + std::exp(-double{1.702f} * g)) * (u + 1))});
  }
  std::vector<uint8_t> codes(p.weight.codes.size() + 16), scales(p.weight.scales.size() + 16);
  const auto aligned = [](std::vector<uint8_t>& bytes, const std::vector<uint8_t>& from) {
    uint8_t* to = bytes.data() + (16 - reinterpret_cast<uintptr_t>(bytes.data()) % 16) % 16;
    std::copy(from.begin(), from.end(), to);
    return to;
  };
  uint8_t* c = aligned(codes, p.weight.codes);
  uint8_t* s = aligned(scales, p.weight.scales);
  for (int64_t e = 0; e < kExperts; ++e)
    mxfp4::prepack(kN, kK, c + e * kN * kK / 2, s + e * kN * kK / 32);
  p.args.weight.codes = c;
  p.args.weight.scales = s;
  p.args.layout = Mxfp4Layout::kPrepacked;
  check(p.args);
  const std::vector<Bounded> prepacked = reference_grouped_gemm(p.args, 2);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(prepacked[i].value, got[i].value) << i;
    EXPECT_EQ(prepacked[i].bound, got[i].bound) << i;
  }
}

TEST(ReferenceGroupedGemm, RefusesOffsetsThatFallAndRowsThatTwoEntriesWrite) {
  Problem p;
  p.row_offsets = {0, 3, 2, 6};
  EXPECT_THROW(reference_grouped_gemm(p.args, 1), Error);
  p.row_offsets = {0, 2, 2, 8};
  EXPECT_THROW(reference_grouped_gemm(p.args, 1), Error);
  p.row_offsets = {0, 2, 2, 6};
  p.scatter[5] = 8;
  EXPECT_THROW(reference_grouped_gemm(p.args, 1), Error);
}

TEST(Bounded, ARoundingThatCannotTipLeavesNoBound) {
  const Bounded far = rounded(DType::kBF16, {1.001, 0.0005});
  EXPECT_EQ(far.value, 1);
  EXPECT_EQ(far.bound, 0);
  // 1 + 2^-8 is the middle between 1 and 1 + 2^-7.
  const Bounded near = rounded(DType::kBF16, {1 + 0x1p-8 - 0x1p-20, 0x1p-19});
  EXPECT_EQ(near.value, 1);
  EXPECT_EQ(near.bound, 0x1p-7);
  EXPECT_TRUE(is_within(1.0f, near));
  EXPECT_TRUE(is_within(1.0078125f, near));
  EXPECT_FALSE(is_within(1.015625f, near));
  EXPECT_FALSE(is_within(std::nanf(""), near));
  EXPECT_FALSE(is_within(0.0f, kUntouched));
  EXPECT_TRUE(is_within(std::nanf(""), {std::nan(""), 0}));
  EXPECT_FALSE(is_within(1.0f, {std::nan(""), INFINITY}));
}

TEST(Bounded, SumsOfFewQuantaAreExactInAnyOrder) {
  EXPECT_EQ(quantum_of(std::vector<float>{3, -0.75f, 0, 8}), 0.25);
  EXPECT_EQ(quantum_of(std::vector<float>{4, 12}), 4);
  EXPECT_EQ(quantum_of(std::vector<float>{0x1.8p-126f, 0x1p-149f}), 0x1p-149);
  EXPECT_EQ(quantum_of(std::vector<float>{1, INFINITY}), 0);
  EXPECT_TRUE(std::isinf(quantum_of(std::vector<float>{0, -0.0f})));
  const ExactDot few = {10, 1000, 0.5};
  EXPECT_EQ(biased_dot(few, 64, 2.5f).bound, 0);
  EXPECT_GT(biased_dot(few, 64, 2.25f).bound, 0);
  EXPECT_GT(biased_dot({10, 0x1p23 + 1, 0.5}, 64, 0).bound, 0);
  EXPECT_GT(biased_dot({10, 1000, 0}, 64, 0).bound, 0);
  EXPECT_GT(biased_dot({0x1p-140, 0x1p-140, 0x1p-150}, 64, 0).bound, 0);
}

// swiglu()'s bound holds for every pair of ends of the intervals it was given.
TEST(Bounded, SwigluStaysWithinItsBound) {
  for (uint64_t i = 0; i < 20000; ++i) {
    const Bounded gate = {4 * double{random_normal(1, i)}, 0.1 * double{random_uniform(2, i)}};
    const Bounded up = {4 * double{random_normal(3, i)}, 0.1 * double{random_uniform(4, i)}};
    const Bounded sum = swiglu(gate, up, 1.702f, 7);
    for (const double a : {-1.0, 1.0})
      for (const double b : {-1.0, 1.0}) {
        const Bounded end =
            swiglu({gate.value + a * gate.bound, 0}, {up.value + b * up.bound, 0}, 1.702f, 7);
        ASSERT_LE(std::abs(end.value - sum.value), sum.bound) << i;
      }
  }
}

}  // namespace
}  // namespace moxie
