// What `moxie eval` tells of a run: a table, some failures, and JSON with everything. The texts
// follow from the results alone, but for the seconds in the JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval_score.h"

namespace moxie::cli {

// How a run was made.
struct EvalRun {
  std::string model, backend;
  std::string effort;  // empty: each item's own
  int64_t max_tokens = 0, batch = 0;
  SamplingParams sampling;
  int64_t num_items = 0;  // to do; fewer results mean that it was interrupted
  double seconds = 0;
};

// Abilities in the order in which they come first, each with its sums.
std::vector<std::pair<std::string, Tally>> tallies(const std::vector<ItemResult>& results);
Tally total_of(const std::vector<ItemResult>& results);

std::string eval_table(const EvalRun& run, const std::vector<ItemResult>& results);
// At most `limit` answers that are not right, in the order of the sets.
std::string eval_failures(const std::vector<ItemResult>& results, int64_t limit);
std::string eval_json(const EvalRun& run, const std::vector<ItemResult>& results);

}  // namespace moxie::cli
