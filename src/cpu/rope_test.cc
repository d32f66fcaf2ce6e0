#include "cpu/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "cpu/test_support.h"
#include "moxie/error.h"

namespace moxie::cpu {
namespace {

struct Layout {
  int64_t q_heads, kv_heads, head_dim;
  int64_t cols() const { return (q_heads + 2 * kv_heads) * head_dim; }
};

struct Result {
  std::vector<bf16> qkv, k, v;
};

struct Rows1 {  // one sequence
  int64_t start, count, capacity;
};

Result run(const Layout& layout, std::vector<bf16> qkv, const std::vector<float>& cos,
           const std::vector<float>& sin, const Rows1& rows, Isa isa, int threads) {
  TestContext context(isa, threads, {}, 64);
  const size_t cache = static_cast<size_t>(layout.kv_heads * rows.capacity * layout.head_dim);
  Result result{std::move(qkv), std::vector<bf16>(cache), std::vector<bf16>(cache)};
  const std::vector<SequenceRows> sequences = {
      {{result.k.data(), result.v.data(), rows.capacity}, rows.start, 0, rows.count}};
  RopeArgs args;
  args.qkv = {result.qkv.data(), DType::kBF16, rows.count, layout.cols(), layout.cols()};
  args.num_q_heads = layout.q_heads;
  args.num_kv_heads = layout.kv_heads;
  args.head_dim = layout.head_dim;
  args.cos = cos.data();
  args.sin = sin.data();
  args.sequences = sequences;
  rope(args, context.get());
  return result;
}

class RopeTest : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isas, RopeTest, testing::ValuesIn(usable_isas()),
                         [](const auto& param_info) {
                           return std::string(name(param_info.param));
                         });

// Every bit, since the contract names every rounding.
TEST_P(RopeTest, RotatesWithThreeRoundingsAndStores) {
  for (const Layout layout : {Layout{64, 8, 64}, Layout{4, 2, 32}, Layout{2, 1, 16},
                              Layout{3, 1, 24}, Layout{2, 2, 10}, Layout{1, 1, 2}}) {
    for (const Rows1 rows : {Rows1{0, 0, 4}, Rows1{0, 1, 1}, Rows1{5, 19, 24}, Rows1{130, 9, 13}}) {
      Random random(static_cast<uint64_t>(layout.head_dim + rows.count));
      std::vector<bf16> qkv;
      for (int64_t i = 0; i < rows.count * layout.cols(); ++i)
        qkv.push_back(to_bf16(random.normal() * (i % 7 == 0 ? 1e-39f : 3.0f)));
      std::vector<float> cos, sin;
      const int64_t half = layout.head_dim / 2;
      for (int64_t i = 0; i < rows.count * half; ++i) {
        cos.push_back(1.35f * std::cos(static_cast<float>(i)));
        sin.push_back(1.35f * std::sin(static_cast<float>(i)));
      }
      const Result got = run(layout, qkv, cos, sin, rows, GetParam(), 2);
      for (int64_t row = 0; row < rows.count; ++row) {
        for (int64_t head = 0; head < layout.q_heads + 2 * layout.kv_heads; ++head) {
          const size_t at = static_cast<size_t>(row * layout.cols() + head * layout.head_dim);
          std::vector<bf16> want(qkv.begin() + static_cast<int64_t>(at),
                                 qkv.begin() + static_cast<int64_t>(at) + layout.head_dim);
          for (int64_t d = 0; d < half && head < layout.q_heads + layout.kv_heads; ++d) {
            const float c = round_to_bf16(cos[static_cast<size_t>(row * half + d)]);
            const float s = round_to_bf16(sin[static_cast<size_t>(row * half + d)]);
            const float x = to_float(want[static_cast<size_t>(d)]);
            const float y = to_float(want[static_cast<size_t>(d + half)]);
            want[static_cast<size_t>(d)] = to_bf16(round_to_bf16(x * c) - round_to_bf16(y * s));
            want[static_cast<size_t>(d + half)] =
                to_bf16(round_to_bf16(y * c) + round_to_bf16(x * s));
          }
          const auto begin = got.qkv.begin() + static_cast<int64_t>(at);
          ASSERT_EQ(std::vector<bf16>(begin, begin + layout.head_dim), want)
              << "row " << row << " head " << head << " of " << layout.head_dim;
          if (head < layout.q_heads) continue;
          const bool is_value = head >= layout.q_heads + layout.kv_heads;
          const int64_t kv_head = (head - layout.q_heads) % layout.kv_heads;
          const int64_t slot = (rows.start + row) % rows.capacity;
          const auto stored = (is_value ? got.v : got.k).begin() +
                              (kv_head * rows.capacity + slot) * layout.head_dim;
          ASSERT_EQ(std::vector<bf16>(stored, stored + layout.head_dim), want)
              << (is_value ? "value" : "key") << " of row " << row;
        }
      }
      ASSERT_EQ(got.qkv, run(layout, qkv, cos, sin, rows, GetParam(), 1).qkv);
    }
  }
}

TEST_P(RopeTest, KeepsNanAndInfinity) {
  const Layout layout{8, 1, 64};
  std::vector<bf16> qkv(static_cast<size_t>(layout.cols()), to_bf16(1.0f));
  qkv[3].bits = 0x7fff;   // a NaN with every bit set
  qkv[70].bits = 0xffff;  // and a negative one
  qkv[130] = to_bf16(std::numeric_limits<float>::infinity());
  const std::vector<float> cos(32, 0.5f), sin(32, 0.25f);
  const Result got = run(layout, qkv, cos, sin, {0, 1, 1}, GetParam(), 1);
  for (const size_t i : {3, 35, 70, 102}) EXPECT_TRUE(std::isnan(to_float(got.qkv[i]))) << i;
  for (const size_t i : {130, 162}) EXPECT_TRUE(std::isinf(to_float(got.qkv[i]))) << i;
  EXPECT_EQ(to_float(got.qkv[4]), 0.25f);
  EXPECT_EQ(to_float(got.qkv[36]), 0.75f);
}

TEST_P(RopeTest, AMatrixOfAnotherWidthIsRefused) {
  TestContext context(GetParam(), 1, {}, 64);
  std::vector<bf16> qkv(100);
  RopeArgs args;
  args.qkv = {qkv.data(), DType::kBF16, 1, 100, 100};
  args.num_q_heads = 1;
  args.num_kv_heads = 1;
  args.head_dim = 32;
  EXPECT_THROW(rope(args, context.get()), Error);
}

}  // namespace
}  // namespace moxie::cpu
