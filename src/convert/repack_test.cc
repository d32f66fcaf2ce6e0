#include "convert/repack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/reference/random.h"

namespace moxie {
namespace {

struct Shape {
  int64_t n, k;
  int threads;
};

class Repack : public testing::TestWithParam<Shape> {};

TEST_P(Repack, DequantizesEveryElementToItsTransposedPlace) {
  const auto [n, k, threads] = GetParam();
  const RandomMxfp4 packed(1, n, k, /*seed=*/11, /*min_scale=*/0, /*max_scale=*/254);
  ThreadPool pool(threads);
  // Two ranges that meet: the second must not begin where the first did.
  const int64_t middle = k / 64 * 32;
  std::vector<bf16> out(static_cast<size_t>(n * k));
  DequantizeTransposedArgs args{packed.codes.data(), packed.scales.data(), n, k, 0, middle,
                                out.data()};
  dequantize_transposed(args, pool);
  args.k_begin = middle;
  args.k_end = k;
  args.out = out.data() + middle * n;
  dequantize_transposed(args, pool);
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t col = 0; col < k; ++col) {
      const int64_t block = row * (k / 32) + col / 32;
      const uint8_t code =
          mxfp4::code_at(packed.codes.data() + block * 16, static_cast<int>(col % 32));
      const bf16 want =
          mxfp4::decode_element<bf16>(code, packed.scales[static_cast<size_t>(block)]);
      ASSERT_EQ(out[static_cast<size_t>(col * n + row)].bits, want.bits) << row << ", " << col;
    }
  }
}

TEST_P(Repack, QuantizesColumnsLikeTheBlockFunction) {
  const auto [n, k, threads] = GetParam();
  std::vector<float> values(static_cast<size_t>(n * k));  // [k, n]
  fill_normal(std::span(values), 5);
  ThreadPool pool(threads);
  for (const mxfp4::ScaleRule rule :
       {mxfp4::ScaleRule::kRoundUp, mxfp4::ScaleRule::kFloor, mxfp4::ScaleRule::kEven}) {
    const int64_t begin = n / 3, rows = n - begin;
    std::vector<uint8_t> codes(static_cast<size_t>(rows * k / 2)),
        scales(static_cast<size_t>(rows * k / 32));
    QuantizeTransposedArgs args{.in = reinterpret_cast<const uint8_t*>(values.data()),
                                .element = SourceElement::kF32,
                                .n = n,
                                .k = k,
                                .n_begin = begin,
                                .n_end = n,
                                .rule = rule,
                                .codes = codes.data(),
                                .scales = scales.data()};
    ASSERT_TRUE(quantize_transposed(args, pool));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t block = 0; block < k / 32; ++block) {
        float column[32];
        for (int64_t t = 0; t < 32; ++t)
          column[t] = values[static_cast<size_t>((block * 32 + t) * n + begin + row)];
        uint8_t want_codes[16], want_scale;
        mxfp4::encode_block(column, rule, want_codes, &want_scale);
        const int64_t place = row * (k / 32) + block;
        ASSERT_EQ(scales[static_cast<size_t>(place)], want_scale) << row << ", " << block;
        ASSERT_EQ(std::memcmp(codes.data() + place * 16, want_codes, 16), 0)
            << row << ", " << block;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Repack,
                         testing::Values(Shape{1, 32, 1}, Shape{1, 64, 2}, Shape{63, 64, 1},
                                         Shape{64, 96, 2}, Shape{65, 32, 3}, Shape{130, 160, 2}));

// Any address: safetensors promise none.
TEST(Quantize, ReadsElementsAtOddAddresses) {
  constexpr int64_t kN = 70, kK = 64;
  std::vector<bf16> values(kN * kK);
  fill_normal(std::span(values), 3);
  std::vector<uint8_t> shifted(values.size() * 2 + 1);
  std::memcpy(shifted.data() + 1, values.data(), values.size() * 2);
  ThreadPool pool(2);
  std::vector<uint8_t> codes[2], scales[2];
  for (int i = 0; i < 2; ++i) {
    codes[i].resize(kN * kK / 2);
    scales[i].resize(kN * kK / 32);
    QuantizeTransposedArgs args{
        .in = i == 0 ? reinterpret_cast<const uint8_t*>(values.data()) : shifted.data() + 1,
        .n = kN,
        .k = kK,
        .n_end = kN,
        .codes = codes[i].data(),
        .scales = scales[i].data()};
    ASSERT_TRUE(quantize_transposed(args, pool));
  }
  EXPECT_EQ(codes[0], codes[1]);
  EXPECT_EQ(scales[0], scales[1]);
}

TEST(Quantize, RefusesWhatWouldNotDecodeToFiniteValues) {
  ThreadPool pool(1);
  const auto accepts = [&](float value, mxfp4::ScaleRule rule) {
    std::vector<float> values(64, 1.0f);  // [32, 2]
    values[31 * 2 + 1] = value;
    uint8_t codes[32], scales[2];
    return quantize_transposed({.in = reinterpret_cast<const uint8_t*>(values.data()),
                                .element = SourceElement::kF32,
                                .n = 2,
                                .k = 32,
                                .n_end = 2,
                                .rule = rule,
                                .codes = codes,
                                .scales = scales},
                               pool);
  };
  for (const mxfp4::ScaleRule rule :
       {mxfp4::ScaleRule::kRoundUp, mxfp4::ScaleRule::kFloor, mxfp4::ScaleRule::kEven}) {
    EXPECT_FALSE(accepts(std::nanf(""), rule));
    EXPECT_FALSE(accepts(std::numeric_limits<float>::infinity(), rule));
    EXPECT_FALSE(accepts(-std::numeric_limits<float>::infinity(), rule));
    EXPECT_TRUE(accepts(0x1p127f, rule));  // 4 * 2^125
  }
  EXPECT_FALSE(accepts(std::numeric_limits<float>::max(), mxfp4::ScaleRule::kRoundUp));
  // 1.5 * 2^127 = 6 * 2^125 is the largest that any scale below 253 holds.
  EXPECT_TRUE(accepts(0x1.8p127f, mxfp4::ScaleRule::kRoundUp));
  EXPECT_FALSE(accepts(0x1.800002p127f, mxfp4::ScaleRule::kRoundUp));
}

// All 65536 of them, by the definition of binary16.
TEST(Widen, IsExactForEveryHalf) {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> got(halves.size());
  widen(reinterpret_cast<const uint8_t*>(halves.data()), SourceElement::kF16,
        static_cast<int64_t>(halves.size()), got.data());
  for (int i = 0; i < 65536; ++i) {
    const int exponent = (i >> 10) & 31, mantissa = i & 1023;
    const double sign = i & 0x8000 ? -1 : 1;
    const float value = got[static_cast<size_t>(i)];
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(value), mantissa != 0) << i;
      if (mantissa == 0) {
        ASSERT_EQ(value, sign * std::numeric_limits<float>::infinity()) << i;
      }
      continue;
    }
    const double want = sign * (exponent == 0 ? std::ldexp(mantissa, -24)
                                              : std::ldexp(1024 + mantissa, exponent - 25));
    ASSERT_EQ(static_cast<double>(value), want) << i;
    ASSERT_EQ(std::signbit(value), (i & 0x8000) != 0) << i;
  }
}

}  // namespace
}  // namespace moxie
