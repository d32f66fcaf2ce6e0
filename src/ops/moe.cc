#include "ops/moe.h"

#include <algorithm>
#include <cmath>

#include "ops/check_views.h"

namespace moxie {

void check(const MoeArgs& args) {
  const char* op = "moe";
  const int64_t rows = args.x.rows, hidden = args.gate_up.k, inner = args.down.k;
  const int64_t experts = args.gate_up.experts;
  const DType dtype = args.x.dtype;
  check_weight(op, "gate_up", args.gate_up, args.layout);
  check_weight(op, "down", args.down, args.layout);
  MOXIE_CHECK(args.down.experts == experts, kInvalidArgument, "gate_up and down of ", op, " have ",
              experts, " and ", args.down.experts, " experts");
  MOXIE_CHECK(args.gate_up.n == 2 * inner && args.down.n == hidden, kInvalidArgument, "with down [",
              args.down.n, ", ", inner, "] gate_up of ", op, " must be [", 2 * inner, ", ",
              args.down.n, "], got [", args.gate_up.n, ", ", hidden, "]");
  MOXIE_CHECK(dtype == DType::kBF16 || dtype == DType::kF32, kUnsupported, "x of ", op,
              " must be BF16 or F32, got ", name(dtype));
  check_rows(op, "x", args.x, dtype, rows, hidden);
  if (args.layout == Mxfp4Layout::kPrepacked) check_row_alignment(op, "x", args.x);
  check_rows(op, "out", args.out, dtype, rows, hidden);
  if (args.residual) check_rows(op, "residual", args.residual, dtype, rows, hidden);
  MOXIE_CHECK(!overlap(args.x, args.out), kInvalidArgument, "x and out of ", op,
              " must not overlap");

  MOXIE_CHECK(args.activations == Activations::kBf16 || args.activations == Activations::kFp8,
              kInvalidArgument, "the activations of ", op, " are ",
              static_cast<int>(args.activations), ", which is nothing");
  if (args.activations == Activations::kFp8) {
    MOXIE_CHECK(dtype == DType::kBF16, kUnsupported, "fp8 activations of ", op,
                " are made from x in BF16, got ", name(dtype));
    MOXIE_CHECK(
        std::isfinite(args.alpha) && args.alpha > 0 && std::isfinite(args.limit) && args.limit > 0,
        kUnsupported, "fp8 activations of ", op,
        " need a positive alpha and limit, which bound what SwiGLU gives; got ", args.alpha,
        " and ", args.limit);
  }

  MOXIE_CHECK(args.experts_per_token >= 1, kInvalidArgument, "experts_per_token of ", op,
              " must be at least 1, got ", args.experts_per_token);
  check_size(op, "experts_per_token", args.experts_per_token);
  check_size(op, "rows times experts_per_token", rows * args.experts_per_token);
  check_size(op, "first_expert", args.first_expert);
  MOXIE_CHECK(args.foreign == ForeignExperts::kRefuse || args.foreign == ForeignExperts::kSkip,
              kInvalidArgument, "what ", op, " does with foreign experts is ",
              static_cast<int>(args.foreign), ", which is nothing");
  if (!args.logits) {
    check_span(op, "expert_ids", args.expert_ids, rows * args.experts_per_token);
    check_span(op, "weights", args.weights, rows * args.experts_per_token);
    return;
  }
  MOXIE_CHECK(args.expert_ids.empty() && args.weights.empty(), kInvalidArgument, op,
              " takes logits or expert_ids with weights, not both");
  const ConstRows& logits = args.logits;
  MOXIE_CHECK(logits.dtype == DType::kBF16 || logits.dtype == DType::kF32, kUnsupported,
              "logits of ", op, " must be BF16 or F32, got ", name(logits.dtype));
  check_rows(op, "logits", logits, logits.dtype, rows, logits.cols);
  MOXIE_CHECK(args.experts_per_token <= logits.cols, kInvalidArgument, "experts_per_token of ", op,
              " must be 1 to ", logits.cols, ", the number of logits in a row; got ",
              args.experts_per_token);
  MOXIE_CHECK(args.first_expert + experts <= logits.cols, kInvalidArgument, op, " has experts ",
              args.first_expert, " to ", args.first_expert + experts - 1, ", but logits of ",
              logits.cols);
  MOXIE_CHECK(args.foreign == ForeignExperts::kSkip || experts == logits.cols, kInvalidArgument, op,
              " has ", experts, " experts and logits of ", logits.cols,
              ": it must be told to skip the others");
  MOXIE_CHECK(args.rounding == WeightRounding::kToLogits || args.rounding == WeightRounding::kNone,
              kInvalidArgument, "the rounding of ", op, " is ", static_cast<int>(args.rounding),
              ", which is none");
}

void check_bf16_activations(const MoeArgs& args) {
  MOXIE_CHECK(args.activations == Activations::kBf16, kUnsupported,
              "moe has fp8 activations on Hopper GPUs only; ask for bf16 here");
}

float e4m3_factor(float alpha, float limit) {
  // v * sigmoid(v) is never below -0.2785.
  const float largest = std::max(limit, 0.2785f / alpha) * (limit + 1);
  return std::exp2(std::floor(std::log2(448 / largest)));
}

void check_expert_ids(const MoeArgs& args) {
  if (args.foreign == ForeignExperts::kSkip) return;
  const int64_t end = args.first_expert + args.gate_up.experts;
  for (const int32_t id : args.expert_ids)
    MOXIE_CHECK(id >= args.first_expert && id < end, kInvalidArgument, "expert ", id,
                " is not one of the experts ", args.first_expert, " to ", end - 1, " of moe");
}

}  // namespace moxie
