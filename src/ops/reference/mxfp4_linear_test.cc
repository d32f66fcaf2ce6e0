#include "ops/reference/mxfp4_linear.h"

#include <gtest/gtest.h>

#include <random>

#include "base/check.h"
#include "mxfp4/weight_layout.h"

namespace moxie {
namespace {

struct Problem {
  static constexpr int64_t kRows = 3, kN = 48, kK = 96;
  alignas(16) uint8_t codes[kN * kK / 2];
  alignas(16) uint8_t scales[kN * kK / 32];
  alignas(16) bf16 x[kRows * kK], out[kRows * kN];
  float bias[kN];
  Mxfp4LinearArgs args;

  Problem() {
    std::mt19937 random(5);
    for (uint8_t& byte : codes) byte = static_cast<uint8_t>(random());
    for (uint8_t& byte : scales) byte = static_cast<uint8_t>(120 + random() % 16);
    for (bf16& value : x) value = to_bf16(static_cast<float>(static_cast<int>(random() % 33) - 16));
    for (float& value : bias) value = static_cast<float>(random() % 7);
    args.x = {x, DType::kBF16, kRows, kK, kK};
    args.weight = {codes, scales, 1, kN, kK};
    args.bias = bias;
    args.out = {out, DType::kBF16, kRows, kN, kN};
  }
};

TEST(ReferenceMxfp4Linear, IsTheSumOfProductsOfDecodedRows) {
  Problem p;
  check(p.args);
  const std::vector<ExactDot> got = reference_mxfp4_linear(p.args);
  for (int64_t row = 0; row < Problem::kRows; ++row)
    for (int64_t feature = 0; feature < Problem::kN; ++feature) {
      float weight[Problem::kK];
      mxfp4::decode_row(p.codes + feature * Problem::kK / 2, p.scales + feature * Problem::kK / 32,
                        Problem::kK, weight);
      double z = p.bias[feature], abs_sum = 0;
      for (int i = 0; i < Problem::kK; ++i) {
        const double product = double{weight[i]} * to_float(p.x[row * Problem::kK + i]);
        z += product;
        abs_sum += product < 0 ? -product : product;
      }
      const ExactDot& dot = got[static_cast<size_t>(row * Problem::kN + feature)];
      EXPECT_DOUBLE_EQ(dot.z, z) << row << ", " << feature;
      EXPECT_DOUBLE_EQ(dot.abs_sum, abs_sum) << row << ", " << feature;
    }
}

TEST(ReferenceMxfp4Linear, APrepackedWeightIsTheSameWeight) {
  Problem p;
  const std::vector<ExactDot> want = reference_mxfp4_linear(p.args);
  mxfp4::prepack(Problem::kN, Problem::kK, p.codes, p.scales);
  p.args.layout = Mxfp4Layout::kPrepacked;
  check(p.args);
  const std::vector<ExactDot> got = reference_mxfp4_linear(p.args);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i].z, want[i].z) << i;
}

TEST(Mxfp4LinearArgs, OneSentenceForEachThingThatIsWrong) {
  const auto sentence = [](const auto& spoil) {
    Problem p;
    spoil(p.args);
    try {
      check(p.args);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  using Args = Mxfp4LinearArgs;
  EXPECT_EQ(sentence([](Args&) {}), "");
  EXPECT_EQ(sentence([](Args& a) {
              a.x.rows = a.out.rows = 0;
              a.x.data = a.out.data = nullptr;
            }),
            "");
  const std::pair<void (*)(Args&), const char*> kWrong[] = {
      {[](Args& a) { a.weight.k = 80; }, "multiple of 32 columns"},
      {[](Args& a) { a.weight.experts = 2; }, "one weight matrix"},
      {[](Args& a) { a.weight.codes = nullptr; }, "null"},
      {[](Args& a) { a.weight.n = -1; }, "weight of mxfp4_linear must be between 0 and"},
      {[](Args& a) { a.layout = static_cast<Mxfp4Layout>(7); }, "layout of mxfp4_linear is 7"},
      {[](Args& a) { a.out.data = const_cast<void*>(a.x.data); }, "must not overlap"},
      {[](Args& a) { a.x.cols = 64; }, "x of mxfp4_linear must be 3 x 96"},
      {[](Args& a) { a.x.dtype = DType::kF32; }, "x of mxfp4_linear must be BF16, got F32"},
      {[](Args& a) { a.x.stride = 90; }, "only 90 apart"},
      {[](Args& a) { a.x.stride = 97; }, "multiple of 16 bytes apart, got 194"},
      {[](Args& a) { a.x.data = static_cast<const bf16*>(a.x.data) + 1; },
       "must begin at a multiple of 16 bytes"},
      {[](Args& a) { a.out.rows = 2; }, "out of mxfp4_linear must be 3 x 48, got 2 x 48"},
      {[](Args& a) { a.out.data = nullptr; }, "out of mxfp4_linear is null"},
      {[](Args& a) { a.activation = Args::Activation::kSwiglu; }, "must be 3 x 24"},
      {[](Args& a) {
         a.activation = Args::Activation::kSwiglu;
         a.residual = a.out;
       },
       "only without SwiGLU"},
      {[](Args& a) {
         a.layout = Mxfp4Layout::kPrepacked;
         ++a.weight.codes;
       },
       "must begin at multiples of 16 bytes"},
      {[](Args& a) {
         a.layout = Mxfp4Layout::kPrepacked;
         a.weight.n = 40;
       },
       "multiple of 16 rows"},
  };
  for (const auto& [spoil, part] : kWrong)
    EXPECT_NE(sentence(spoil).find(part), std::string::npos)
        << "expected \"" << part << "\" in \"" << sentence(spoil) << "\"";
}

}  // namespace
}  // namespace moxie
