#include "cpu/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "cpu/test_support.h"
#include "moxie/error.h"

namespace moxie::cpu {
namespace {

class RmsNormTest : public testing::TestWithParam<Isa> {
 protected:
  // Rows lie `stride` apart; what is between them must neither be read nor written.
  std::vector<bf16> run(std::vector<bf16> x, int64_t rows, int64_t cols, int64_t stride,
                        const std::vector<float>& scale, float epsilon = 1e-5f, int threads = 2) {
    TestContext context(GetParam(), threads, {}, 64);
    std::vector<bf16> out(x.size(), to_bf16(-7.0f));
    RmsNormArgs args;
    args.x = ConstRows(x.data(), DType::kBF16, rows, cols, stride);
    args.scale = scale.data();
    args.epsilon = epsilon;
    args.out = {out.data(), DType::kBF16, rows, cols, stride};
    rms_norm(args, context.get());
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(Isas, RmsNormTest, testing::ValuesIn(usable_isas()),
                         [](const auto& param_info) {
                           return std::string(name(param_info.param));
                         });

TEST_P(RmsNormTest, StaysWithinItsErrorBound) {
  for (const int64_t cols : {1, 2, 7, 8, 31, 32, 33, 64, 100, 2880, 2881}) {
    for (const int64_t rows : {0, 1, 3, 17}) {
      Random random(static_cast<uint64_t>(cols * 100 + rows));
      const int64_t stride = cols + 5;
      std::vector<bf16> x;
      for (int64_t i = 0; i < rows * stride; ++i)
        x.push_back(to_bf16(i % stride < cols ? 3 * random.normal()
                                              : std::numeric_limits<float>::quiet_NaN()));
      std::vector<float> scale;
      for (int64_t i = 0; i < cols; ++i) scale.push_back(1 + random.normal());
      const std::vector<bf16> got = run(x, rows, cols, stride, scale);
      for (int64_t row = 0; row < rows; ++row) {
        double squares = 0;
        for (int64_t i = 0; i < cols; ++i) {
          const double value =
              static_cast<double>(to_float(x[static_cast<size_t>(row * stride + i)]));
          squares += value * value;
        }
        const double root = std::sqrt(squares / static_cast<double>(cols) + 1e-5);
        for (int64_t i = 0; i < stride; ++i) {
          const size_t at = static_cast<size_t>(row * stride + i);
          const double value = static_cast<double>(to_float(got[at]));
          if (i >= cols) {
            ASSERT_EQ(value, -7.0) << "column " << i << " is outside the matrix";
            continue;
          }
          const double want = static_cast<double>(to_float(x[at])) / root *
                              static_cast<double>(scale[static_cast<size_t>(i)]);
          const double bound =
              half_bf16_ulp(want) + (static_cast<double>(cols) + 4) * 0x1p-24 * std::abs(want);
          ASSERT_NEAR(value, want, bound)
              << rows << " x " << cols << ", row " << row << " col " << i;
        }
      }
    }
  }
}

TEST_P(RmsNormTest, RowsAndThreadsDoNotChangeABit) {
  const int64_t cols = 2880, rows = 20;
  Random random(4);
  std::vector<bf16> x;
  for (int64_t i = 0; i < rows * cols; ++i) x.push_back(to_bf16(random.normal()));
  const std::vector<float> scale(static_cast<size_t>(cols), 1.1f);
  const std::vector<bf16> all = run(x, rows, cols, cols, scale, 1e-5f, 3);
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = x.begin() + row * cols;
    ASSERT_EQ(run({begin, begin + cols}, 1, cols, cols, scale, 1e-5f, 1),
              (std::vector<bf16>(all.begin() + row * cols, all.begin() + (row + 1) * cols)));
  }
}

TEST_P(RmsNormTest, ZerosStayZerosAndNanStaysInItsRow) {
  const int64_t cols = 40;
  std::vector<bf16> x(static_cast<size_t>(3 * cols));
  for (int64_t i = 0; i < cols; ++i) x[static_cast<size_t>(2 * cols + i)] = to_bf16(2.0f);
  x[static_cast<size_t>(cols + 39)] = to_bf16(std::numeric_limits<float>::quiet_NaN());
  const std::vector<bf16> got = run(x, 3, cols, cols, std::vector<float>(40, 1.0f));
  for (int64_t i = 0; i < cols; ++i) {
    EXPECT_EQ(to_float(got[static_cast<size_t>(i)]), 0.0f);
    EXPECT_TRUE(std::isnan(to_float(got[static_cast<size_t>(cols + i)])));
    EXPECT_EQ(to_float(got[static_cast<size_t>(2 * cols + i)]), 1.0f);
  }
}

TEST_P(RmsNormTest, MayWriteOverItsInput) {
  const int64_t cols = 100;
  Random random(8);
  std::vector<bf16> x;
  for (int64_t i = 0; i < cols; ++i) x.push_back(to_bf16(random.normal()));
  const std::vector<float> scale(static_cast<size_t>(cols), 0.7f);
  const std::vector<bf16> want = run(x, 1, cols, cols, scale);
  TestContext context(GetParam(), 1, {}, 64);
  RmsNormArgs args;
  args.x = ConstRows(x.data(), DType::kBF16, 1, cols, cols);
  args.scale = scale.data();
  args.out = {x.data(), DType::kBF16, 1, cols, cols};
  rms_norm(args, context.get());
  EXPECT_EQ(x, want);
}

TEST_P(RmsNormTest, Float32RowsAreRefused) {
  TestContext context(GetParam(), 1, {}, 64);
  std::vector<float> x(8), scale(8);
  RmsNormArgs args;
  args.x = ConstRows(x.data(), DType::kF32, 1, 8, 8);
  args.scale = scale.data();
  args.out = {x.data(), DType::kF32, 1, 8, 8};
  EXPECT_THROW(rms_norm(args, context.get()), Error);
}

}  // namespace
}  // namespace moxie::cpu
