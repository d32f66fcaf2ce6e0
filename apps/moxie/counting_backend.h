// Passes every operation on and counts how many experts the rows were routed to.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/backend.h"

namespace moxie::cli {

// What the experts block was asked since the last reset.
struct RoutingCounts {
  int64_t calls = 0;             // one per layer and forward pass
  int64_t distinct_experts = 0;  // summed over calls
  int64_t routed_rows = 0;       // (row, expert) pairs, summed over calls
  int64_t busiest_rows = 0;      // rows of each call's busiest expert, summed

  double experts_per_call() const;
  // The busiest expert's rows over the mean of all experts': 1 is perfectly even.
  double skew(int64_t num_experts) const;
};

class CountingBackend : public Backend {
 public:
  CountingBackend(std::unique_ptr<Backend> inner, int64_t num_experts);

  std::string description() const override { return inner_->description(); }
  DType activation_dtype() const override { return inner_->activation_dtype(); }
  int64_t reserve(const BackendLimits& limits) override { return inner_->reserve(limits); }
  void embed(const EmbedArgs& args) override { inner_->embed(args); }
  void rms_norm(const RmsNormArgs& args) override { inner_->rms_norm(args); }
  void linear(const LinearArgs& args) override { inner_->linear(args); }
  void rope(const RopeArgs& args) override { inner_->rope(args); }
  void attention(const AttentionArgs& args) override { inner_->attention(args); }
  void route(const RouteArgs& args) override { inner_->route(args); }
  void moe(const MoeArgs& args) override;

  RoutingCounts counts;

 private:
  std::unique_ptr<Backend> inner_;
  std::vector<int32_t> rows_of_;  // [experts]
};

}  // namespace moxie::cli
