// A forward pass takes no memory: scratch is reserved beforehand, and the heap is left alone.
#include <gtest/gtest.h>

#include <vector>

#include "base/test_allocations.h"
#include "cpu/attention.h"
#include "cpu/embed.h"
#include "cpu/rms_norm.h"
#include "cpu/rope.h"
#include "cpu/route.h"
#include "cpu/test_support.h"

namespace moxie::cpu {
namespace {

TEST(AllocationTest, TheCounterCounts) {
  const long before = test::num_allocations();
  std::vector<int>* made = new std::vector<int>(100);
  EXPECT_GE(test::num_allocations(), before + 2);
  delete made;
}

TEST(AllocationTest, NoOperationAllocates) {
  constexpr int64_t kQHeads = 16, kKvHeads = 2, kDim = 64, kRows = 40, kContext = 1500;
  constexpr int64_t kCols = (kQHeads + 2 * kKvHeads) * kDim, kWidth = kQHeads * kDim;
  BackendLimits limits;
  limits.max_rows = kRows;
  limits.num_q_heads = kQHeads;
  limits.num_kv_heads = kKvHeads;
  limits.head_dim = kDim;
  limits.max_context = kContext;
  std::vector<bf16> qkv(static_cast<size_t>(kRows * kCols)), out(qkv.size()), table(10 * kCols);
  std::vector<bf16> k(static_cast<size_t>(kKvHeads * kContext * kDim)), v(k.size());
  const std::vector<float> ones(static_cast<size_t>(kRows * kCols), 1.0f);
  const std::vector<int32_t> tokens(kRows, 3);
  std::vector<int32_t> ids(kRows * 4);
  std::vector<float> weights(kRows * 4);
  const std::vector<SequenceRows> sequences = {
      {{k.data(), v.data(), kContext}, kContext - kRows, 0, kRows}};
  for (const Isa isa : usable_isas()) {
    TestContext context(isa, 2, limits, attention_scratch_bytes(limits, isa, 2));
    const long before = test::num_allocations();
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      embed({.tokens = tokens,
             .table = {table.data(), 10, kCols},
             .out = {qkv.data(), DType::kBF16, kRows, kCols, kCols}},
            context.get());
      const ConstRows x(qkv.data(), DType::kBF16, kRows, kCols, kCols);
      rms_norm({.x = x,
                .scale = ones.data(),
                .epsilon = 1e-5f,
                .out = {out.data(), DType::kBF16, kRows, kCols, kCols}},
               context.get());
      rope({.qkv = {qkv.data(), DType::kBF16, kRows, kCols, kCols},
            .num_q_heads = kQHeads,
            .num_kv_heads = kKvHeads,
            .head_dim = kDim,
            .cos = ones.data(),
            .sin = ones.data(),
            .sequences = sequences},
           context.get());
      attention({.phase = phase,
                 .q = x,
                 .num_q_heads = kQHeads,
                 .num_kv_heads = kKvHeads,
                 .head_dim = kDim,
                 .sinks = ones.data(),
                 .sm_scale = 0.125f,
                 .window = 0,
                 .sequences = sequences,
                 .out = {out.data(), DType::kBF16, kRows, kWidth, kWidth}},
                context.get());
      route({.logits = ConstRows(qkv.data(), DType::kBF16, kRows, 32, kCols),
             .experts_per_token = 4,
             .expert_ids = ids,
             .weights = weights},
            context.get());
    }
    EXPECT_EQ(test::num_allocations(), before) << name(isa);
  }
}

}  // namespace
}  // namespace moxie::cpu
