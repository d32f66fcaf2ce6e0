#include "cpu/route.h"

#include <cmath>

#include "base/bf16.h"
#include "base/check.h"
#include "cpu/row_tasks.h"

namespace moxie::cpu {
namespace {

// Whether logit a comes before logit b when a's index is larger: ties go to the smaller index.
bool before(float a, float b) { return a > b || (std::isnan(b) && !std::isnan(a)); }

// `weights` holds the chosen logits, best first, until they become weights.
template <class T>
void route_row(const T* logits, int64_t num_experts, int64_t count, bool round_weights,
               int32_t* ids, float* weights) {
  int64_t filled = 0;
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    const float logit = to_float(logits[expert]);
    if (filled == count && !before(logit, weights[count - 1])) continue;
    int64_t place = filled < count ? filled++ : count - 1;
    for (; place > 0 && before(logit, weights[place - 1]); --place) {
      weights[place] = weights[place - 1];
      ids[place] = ids[place - 1];
    }
    weights[place] = logit;
    ids[place] = static_cast<int32_t>(expert);
  }
  const float best = weights[0];
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = std::exp(weights[i] - best);
    sum += weights[i];
  }
  for (int64_t i = 0; i < count; ++i) {
    weights[i] /= sum;
    if (round_weights) weights[i] = round_to_bf16(weights[i]);
  }
}

}  // namespace

void route(const RouteArgs& args, Context& context) {
  const ConstRows& logits = args.logits;
  const int64_t count = args.experts_per_token;
  MOXIE_CHECK(count >= 1 && count <= logits.cols, kInvalidArgument,
              "experts per token must be 1 to ", logits.cols, ", got ", count);
  MOXIE_CHECK(logits.dtype == DType::kBF16 || logits.dtype == DType::kF32, kUnsupported,
              "router logits must be bf16 or float32, got ", name(logits.dtype));
  const auto wanted = static_cast<size_t>(logits.rows * count);
  MOXIE_CHECK(args.expert_ids.size() >= wanted && args.weights.size() >= wanted, kInvalidArgument,
              "routing ", logits.rows, " rows to ", count, " experts needs room for ", wanted,
              " ids and weights, got ", args.expert_ids.size(), " and ", args.weights.size());
  MOXIE_CHECK(args.lists.row_offsets.empty(), kUnsupported,
              "the CPU's route makes no row lists; its moe sorts rows by itself");
  const bool round_weights =
      args.rounding == WeightRounding::kToLogits && logits.dtype == DType::kBF16;
  for_each_row(context.pool, logits.rows, [&](int64_t row) {
    int32_t* ids = args.expert_ids.data() + row * count;
    float* weights = args.weights.data() + row * count;
    if (logits.dtype == DType::kBF16)
      route_row(static_cast<const bf16*>(logits.data) + row * logits.stride, logits.cols, count,
                round_weights, ids, weights);
    else
      route_row(static_cast<const float*>(logits.data) + row * logits.stride, logits.cols, count,
                round_weights, ids, weights);
  });
}

}  // namespace moxie::cpu
