#include "ops/reference/route.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/reference/bounded.h"

namespace moxie {
namespace {

float logit(const ConstRows& logits, int64_t row, int64_t expert) {
  const int64_t at = row * logits.stride + expert;
  return logits.dtype == DType::kBF16 ? to_float(static_cast<const bf16*>(logits.data)[at])
                                      : static_cast<const float*>(logits.data)[at];
}

void route_row(const RouteArgs& args, int64_t row, int32_t* ids, float* weights) {
  const int64_t chosen = args.experts_per_token;
  const auto value = [&](int64_t e) { return logit(args.logits, row, e); };
  // a before b: NaN last, larger first, then the smaller index.
  const auto before = [&](int64_t a, int64_t b) {
    const float x = value(a), y = value(b);
    if (std::isnan(x) != std::isnan(y)) return std::isnan(y);
    if (x != y && !std::isnan(x)) return x > y;
    return a < b;
  };
  for (int64_t i = 0; i < chosen; ++i) {
    int64_t best = -1;
    for (int64_t e = 0; e < args.logits.cols; ++e) {
      if (std::find(ids, ids + i, e) != ids + i) continue;
      if (best < 0 || before(e, best)) best = e;
    }
    ids[i] = static_cast<int32_t>(best);
  }
  double total = 0;
  const double largest = value(ids[0]);
  for (int64_t i = 0; i < chosen; ++i) total += std::exp(value(ids[i]) - largest);
  const DType dtype = args.rounding == WeightRounding::kNone ? DType::kF32 : args.logits.dtype;
  for (int64_t i = 0; i < chosen; ++i)
    weights[i] = round_to(dtype, std::exp(value(ids[i]) - largest) / total);
}

}  // namespace

void reference_route(const RouteArgs& args) {
  for (int64_t row = 0; row < args.logits.rows; ++row) {
    const int64_t first = row * args.experts_per_token;
    route_row(args, row, args.expert_ids.data() + first, args.weights.data() + first);
  }
  if (!args.lists.row_offsets.empty()) reference_row_lists(row_lists_of(args));
}

void reference_row_lists(const RowListsArgs& args) {
  const RowLists& lists = args.lists;
  const int64_t slots = args.rows * args.experts_per_token;
  const auto local = [&](int64_t slot) {
    return int64_t{args.expert_ids[static_cast<size_t>(slot)]} - args.first_expert;
  };
  std::vector<int64_t> sorted;
  for (int64_t slot = 0; slot < slots; ++slot)
    if (local(slot) >= 0 && local(slot) < args.experts) sorted.push_back(slot);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](int64_t a, int64_t b) { return local(a) < local(b); });
  std::fill(lists.positions.begin(), lists.positions.end(), -1);
  std::fill(lists.row_offsets.begin(), lists.row_offsets.end(), 0);
  for (size_t entry = 0; entry < sorted.size(); ++entry) {
    const auto slot = static_cast<size_t>(sorted[entry]);
    ++lists.row_offsets[static_cast<size_t>(local(sorted[entry]) + 1)];
    if (!lists.rows.empty())
      lists.rows[entry] = static_cast<int32_t>(sorted[entry] / args.experts_per_token);
    if (!lists.slots.empty()) lists.slots[entry] = static_cast<int32_t>(slot);
    if (!lists.positions.empty()) lists.positions[slot] = static_cast<int32_t>(entry);
    if (!lists.weights.empty()) lists.weights[entry] = args.expert_weights[slot];
  }
  for (size_t e = 1; e < lists.row_offsets.size(); ++e)
    lists.row_offsets[e] += lists.row_offsets[e - 1];
}

}  // namespace moxie
