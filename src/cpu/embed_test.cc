#include "cpu/embed.h"

#include <gtest/gtest.h>

#include <vector>

#include "cpu/test_support.h"
#include "moxie/error.h"

namespace moxie::cpu {
namespace {

TEST(EmbedTest, CopiesTheRowsOfItsTokens) {
  const int64_t vocab = 50, cols = 37, stride = 40;
  Random random(1);
  std::vector<bf16> table;
  for (int64_t i = 0; i < vocab * cols; ++i) table.push_back(to_bf16(random.normal()));
  for (const int64_t rows : {0, 1, 30}) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < rows; ++i) tokens.push_back(static_cast<int32_t>((i * 49) % vocab));
    std::vector<bf16> out(static_cast<size_t>(rows * stride), to_bf16(9.0f));
    TestContext context(best_isa(), 2, {}, 64);
    embed({.tokens = tokens,
           .table = {table.data(), vocab, cols},
           .out = {out.data(), DType::kBF16, rows, cols, stride}},
          context.get());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < stride; ++i) {
        const bf16 want =
            i < cols ? table[static_cast<size_t>(tokens[static_cast<size_t>(row)] * cols + i)]
                     : to_bf16(9.0f);
        ASSERT_EQ(out[static_cast<size_t>(row * stride + i)], want) << row << ", " << i;
      }
    }
  }
}

TEST(EmbedTest, ATokenOutsideTheTableIsRefused) {
  std::vector<bf16> table(20), out(4);
  TestContext context(best_isa(), 1, {}, 64);
  for (const int32_t token : {-1, 5}) {
    const std::vector<int32_t> tokens = {token};
    EXPECT_THROW(embed({.tokens = tokens,
                        .table = {table.data(), 5, 4},
                        .out = {out.data(), DType::kBF16, 1, 4, 4}},
                       context.get()),
                 Error);
  }
}

}  // namespace
}  // namespace moxie::cpu
