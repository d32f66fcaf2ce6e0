#include "cpu/cpu_backend.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "moxie/error.h"
#include "ops/embed.h"

namespace moxie {
namespace {

BackendLimits some_limits(int64_t rows) {
  return {.max_rows = rows,
          .hidden_size = 64,
          .intermediate_size = 64,
          .num_q_heads = 8,
          .num_kv_heads = 2,
          .head_dim = 16,
          .num_experts = 4,
          .experts_per_token = 2,
          .max_context = 100};
}

TEST(CpuBackendTest, SaysWhatItIs) {
  const auto one = make_cpu_backend(1, cpu::Isa::kScalar);
  EXPECT_EQ(one->description(), "cpu scalar, 1 thread");
  EXPECT_EQ(one->activation_dtype(), DType::kBF16);
  const auto two = make_cpu_backend(2, cpu::best_isa());
  EXPECT_EQ(two->description(), std::string("cpu ") + cpu::name(cpu::best_isa()) + ", 2 threads");
}

TEST(CpuBackendTest, MoreThanTheMachineHasIsRefused) {
  if (cpu::best_isa() == cpu::Isa::kAmx) GTEST_SKIP() << "this machine has every instruction set";
  EXPECT_THROW(make_cpu_backend(1, cpu::Isa::kAmx), Error);
}

TEST(CpuBackendTest, ReservesMoreForLargerLimitsAndNeverLess) {
  for (const cpu::Isa isa : cpu::usable_isas()) {
    const auto backend = make_cpu_backend(2, isa);
    const int64_t small = backend->reserve(some_limits(4));
    EXPECT_GT(small, 0);
    const int64_t large = backend->reserve(some_limits(400));
    EXPECT_GE(large, small);
    EXPECT_EQ(backend->reserve(some_limits(4)), large);
  }
}

TEST(CpuBackendTest, MoreRowsThanReservedAreRefused) {
  const auto backend = make_cpu_backend(1, cpu::best_isa());
  std::vector<bf16> table(8), out(40);
  const std::vector<int32_t> tokens(5, 1);
  const EmbedArgs args{
      .tokens = tokens, .table = {table.data(), 2, 4}, .out = {out.data(), DType::kBF16, 5, 4, 4}};
  EXPECT_THROW(backend->embed(args), Error);
  backend->reserve(some_limits(4));
  EXPECT_THROW(backend->embed(args), Error);
  backend->reserve(some_limits(5));
  EXPECT_NO_THROW(backend->embed(args));
}

}  // namespace
}  // namespace moxie
