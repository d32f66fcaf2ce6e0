#include "ops/route.h"

#include "ops/check_views.h"

namespace moxie {

void check(const RouteArgs& args) {
  const char* op = "route";
  const ConstRows& logits = args.logits;
  MOXIE_CHECK(logits.dtype == DType::kBF16 || logits.dtype == DType::kF32, kUnsupported,
              "logits of ", op, " must be BF16 or F32, got ", name(logits.dtype));
  check_rows(op, "logits", logits, logits.dtype, logits.rows, logits.cols);
  MOXIE_CHECK(args.experts_per_token >= 1 && args.experts_per_token <= logits.cols,
              kInvalidArgument, "experts_per_token of ", op, " must be 1 to ", logits.cols,
              ", the number of logits in a row; got ", args.experts_per_token);
  const int64_t slots = logits.rows * args.experts_per_token;
  check_size(op, "rows times experts_per_token", slots);
  check_span(op, "expert_ids", args.expert_ids, slots);
  check_span(op, "weights", args.weights, slots);
  MOXIE_CHECK(args.rounding == WeightRounding::kToLogits || args.rounding == WeightRounding::kNone,
              kInvalidArgument, "the rounding of ", op, " is ", static_cast<int>(args.rounding),
              ", which is none");
  const RowLists& lists = args.lists;
  if (lists.row_offsets.empty()) {
    MOXIE_CHECK(lists.rows.empty() && lists.slots.empty() && lists.positions.empty() &&
                    lists.weights.empty(),
                kInvalidArgument, "row lists of ", op, " need row_offsets, which is null");
    return;
  }
  check(row_lists_of(args));
  MOXIE_CHECK(args.first_expert + args.experts <= logits.cols, kInvalidArgument,
              "row lists of experts ", args.first_expert, " to ",
              args.first_expert + args.experts - 1, " were asked for, but ", op, " has logits of ",
              logits.cols);
}

RowListsArgs row_lists_of(const RouteArgs& args) {
  return {.rows = args.logits.rows,
          .experts_per_token = args.experts_per_token,
          .expert_ids = args.expert_ids,
          .expert_weights = args.weights,
          .first_expert = args.first_expert,
          .experts = args.experts,
          .lists = args.lists};
}

}  // namespace moxie
