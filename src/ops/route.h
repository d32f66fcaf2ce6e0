// The choice of experts.
#pragma once

#include <cstdint>
#include <span>

#include "ops/row_lists.h"
#include "ops/tensor.h"

namespace moxie {

enum class WeightRounding : uint8_t {
  kToLogits,  // to the logits' dtype, as gpt-oss does
  kNone,      // float32 as computed
};

// The experts_per_token largest logits of each row, larger first, of equal ones the smaller index
// first; and softmax over these only, in float32, rounded as `rounding` says and returned as
// float32. NaN logits order below everything. With lists.row_offsets also the row lists of the
// experts first_expert .. first_expert + experts - 1 (ops/row_lists.h).
//
//   logits      [rows, num_experts]        bf16 or float32
//   expert_ids  [rows, experts_per_token]  int32, from 0 to num_experts - 1
//   weights     [rows, experts_per_token]  float32
//
// Error   ids and lists are exact; |weight - exact| <= (8 + logits[first] - logits[i]) * 2^-22 *
//         exact, or 2^-126; then the rounding
// Source  triton_kernels/routing.py
struct RouteArgs {
  ConstRows logits;
  int64_t experts_per_token = 0;
  WeightRounding rounding = WeightRounding::kToLogits;
  std::span<int32_t> expert_ids;
  std::span<float> weights;
  int64_t first_expert = 0, experts = 0;  // of the lists
  RowLists lists;
};

// Throws Error(kInvalidArgument), or kUnsupported for a dtype, with one sentence, unless the Args
// are as above. Looks at sizes and addresses only, never at data.
void check(const RouteArgs& args);

// The second half of it: the lists of what route chose. REQUIRES lists.row_offsets.
RowListsArgs row_lists_of(const RouteArgs& args);

}  // namespace moxie
