#include "counting_backend.h"

#include <algorithm>

#include "ops/moe.h"

namespace moxie::cli {

double RoutingCounts::experts_per_call() const {
  return calls == 0 ? 0 : static_cast<double>(distinct_experts) / static_cast<double>(calls);
}

double RoutingCounts::skew(int64_t num_experts) const {
  if (routed_rows == 0) return 0;
  return static_cast<double>(busiest_rows) * static_cast<double>(num_experts) /
         static_cast<double>(routed_rows);
}

CountingBackend::CountingBackend(std::unique_ptr<Backend> inner, int64_t num_experts)
    : inner_(std::move(inner)), rows_of_(static_cast<size_t>(num_experts)) {}

void CountingBackend::moe(const MoeArgs& args) {
  std::fill(rows_of_.begin(), rows_of_.end(), 0);
  for (const int32_t expert : args.expert_ids) ++rows_of_[static_cast<size_t>(expert)];
  ++counts.calls;
  counts.routed_rows += static_cast<int64_t>(args.expert_ids.size());
  counts.distinct_experts +=
      static_cast<int64_t>(rows_of_.size()) - std::count(rows_of_.begin(), rows_of_.end(), 0);
  counts.busiest_rows += *std::max_element(rows_of_.begin(), rows_of_.end());
  inner_->moe(args);
}

}  // namespace moxie::cli
