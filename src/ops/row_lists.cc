#include "ops/row_lists.h"

#include "ops/check_views.h"

namespace moxie {

void check(const RowListsArgs& args) {
  const char* op = "route";
  const RowLists& lists = args.lists;
  check_size(op, "rows", args.rows);
  check_size(op, "experts", args.experts);
  check_size(op, "first_expert", args.first_expert);
  MOXIE_CHECK(args.experts_per_token >= 1, kInvalidArgument, "experts_per_token of ", op,
              " must be at least 1, got ", args.experts_per_token);
  check_size(op, "experts_per_token", args.experts_per_token);
  const int64_t slots = args.rows * args.experts_per_token;
  check_size(op, "rows times experts_per_token", slots);
  check_span(op, "expert_ids", args.expert_ids, slots);
  check_span(op, "row_offsets", lists.row_offsets, args.experts + 1);
  check_span(op, "rows", lists.rows, slots, true);
  check_span(op, "slots", lists.slots, slots, true);
  check_span(op, "positions", lists.positions, slots, true);
  check_span(op, "sorted weights", lists.weights, slots, true);
  if (!lists.weights.empty()) check_span(op, "weights", args.expert_weights, slots);
}

}  // namespace moxie
