#include "cpu/route.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "cpu/test_support.h"
#include "moxie/error.h"

namespace moxie::cpu {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

template <class T>
Choice run(const std::vector<T>& logits, int64_t rows, int64_t count, int threads = 2) {
  const int64_t experts = static_cast<int64_t>(logits.size()) / rows;
  TestContext context(best_isa(), threads, {}, 64);
  Choice choice;
  choice.ids.resize(static_cast<size_t>(rows * count));
  choice.weights.resize(static_cast<size_t>(rows * count));
  RouteArgs args;
  args.logits =
      ConstRows(logits.data(), sizeof(T) == 2 ? DType::kBF16 : DType::kF32, rows, experts, experts);
  args.experts_per_token = count;
  args.expert_ids = choice.ids;
  args.weights = choice.weights;
  route(args, context.get());
  return choice;
}

TEST(RouteTest, TheExampleOfTheModel) {
  const std::vector<float> logits = {-1, 1, 0.25f, -3, 2, 1.5f};
  const Choice exact = run(logits, 1, 4);
  EXPECT_EQ(exact.ids, (std::vector<int32_t>{4, 5, 1, 2}));
  const std::vector<float> want = {0.465509474f, 0.282345772f, 0.171251357f, 0.0808934122f};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(exact.weights[i], want[i], 1e-7f);
  std::vector<bf16> rounded;
  for (const float x : logits) rounded.push_back(to_bf16(x));
  EXPECT_EQ(run(rounded, 1, 4).weights,
            (std::vector<float>{0.46484375f, 0.283203125f, 0.170898438f, 0.0810546875f}));
}

TEST(RouteTest, OfEqualLogitsTheSmallerIndexComesFirst) {
  EXPECT_EQ(run(std::vector<float>{1, 3, 3, 1, 3, 1, 3, 3}, 1, 4).ids,
            (std::vector<int32_t>{1, 2, 4, 6}));
  EXPECT_EQ(run(std::vector<float>{0.0f, -0.0f, 0.0f}, 1, 2).ids, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(run(std::vector<float>(32, 0.5f), 1, 4).ids, (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(RouteTest, NanOrdersBelowEverything) {
  EXPECT_EQ(run(std::vector<float>{kNan, -kInfinity, kNan, 5, kNan}, 1, 2).ids,
            (std::vector<int32_t>{3, 1}));
  EXPECT_EQ(run(std::vector<float>{kNan, 1, kNan, 5}, 1, 3).ids, (std::vector<int32_t>{3, 1, 0}));
  EXPECT_EQ(run(std::vector<float>(5, kNan), 1, 3).ids, (std::vector<int32_t>{0, 1, 2}));
}

TEST(RouteTest, AgreesWithASortForManyRows) {
  for (const int64_t experts : {1, 4, 5, 32, 128}) {
    for (const int64_t count : {int64_t{1}, int64_t{4}, experts}) {
      if (count > experts) continue;
      const int64_t rows = 40;
      Random random(static_cast<uint64_t>(experts));
      std::vector<bf16> logits;
      for (int64_t i = 0; i < rows * experts; ++i)
        logits.push_back(to_bf16(std::round(8 * random.normal()) / 8));  // many ties
      const Choice got = run(logits, rows, count, 3);
      for (int64_t row = 0; row < rows; ++row) {
        const auto logit = [&](int32_t e) {
          return static_cast<double>(to_float(logits[static_cast<size_t>(row * experts + e)]));
        };
        std::vector<int32_t> order(static_cast<size_t>(experts));
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.end(), [&](int32_t x, int32_t y) {
          return logit(x) != logit(y) ? logit(x) > logit(y) : x < y;
        });
        double total = 0;
        for (int64_t i = 0; i < count; ++i)
          total += std::exp(logit(order[static_cast<size_t>(i)]) - logit(order[0]));
        for (int64_t i = 0; i < count; ++i) {
          const size_t at = static_cast<size_t>(row * count + i);
          ASSERT_EQ(got.ids[at], order[static_cast<size_t>(i)]) << "row " << row;
          const double want = std::exp(logit(got.ids[at]) - logit(order[0])) / total;
          const double slack = (static_cast<double>(count) + 4) * 0x1p-24 * want;
          ASSERT_NEAR(static_cast<double>(got.weights[at]), want, half_bf16_ulp(want) + slack);
        }
      }
    }
  }
}

TEST(RouteTest, MoreExpertsThanThereAreIsRefused) {
  EXPECT_THROW(run(std::vector<float>{1, 2, 3}, 1, 4), Error);
}

TEST(RouteTest, WeightsStayFloat32WhereNoRoundingIsWanted) {
  const std::vector<bf16> logits = {to_bf16(1), to_bf16(2), to_bf16(0.25f)};
  std::vector<int32_t> ids(2);
  std::vector<float> weights(2);
  TestContext context(best_isa(), 1, {}, 64);
  RouteArgs args;
  args.logits = {logits.data(), DType::kBF16, 1, 3, 3};
  args.experts_per_token = 2;
  args.rounding = WeightRounding::kNone;
  args.expert_ids = ids;
  args.weights = weights;
  route(args, context.get());
  EXPECT_NEAR(weights[0], 0.731058579f, 1e-7f);
  std::vector<int32_t> row_offsets(4);
  args.experts = 3;
  args.lists.row_offsets = row_offsets;
  EXPECT_THROW(route(args, context.get()), Error);
}

}  // namespace
}  // namespace moxie::cpu
