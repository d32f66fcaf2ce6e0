// Which rows each expert works on.
#pragma once

#include <cstdint>
#include <span>

#include "ops/tensor.h"

namespace moxie {

// A slot is an entry of a matrix [rows, experts_per_token] of expert ids: slot = row *
// experts_per_token + i. The lists are of the experts first_expert .. first_expert + experts - 1 of
// a model; slots with other ids (of other machines, or sentinels such as -1 or the number of
// experts) are skipped: they are in no list.
//
//   row_offsets  [experts + 1]  rising from 0; those of expert first_expert + e are the entries
//                               row_offsets[e] .. row_offsets[e + 1] of the lists below, in rising
//                               order of slots
//   rows         [slots]        slot / experts_per_token: where the activations are
//   slots        [slots]        where the result belongs
//   weights      [slots]        the slot's weight
//   positions    [slots]        the inverse of `slots`: the entry of each slot; -1 if it is skipped
//
// Of rows, slots and weights the first row_offsets[experts] entries are written, the rest is left
// as it was. Each list may be empty, meaning that it is not wanted, but for row_offsets.
struct RowLists {
  std::span<int32_t> row_offsets, rows, slots, positions;
  std::span<float> weights;
};

// Makes the lists from a given choice of experts.
//
//   expert_ids      [rows, experts_per_token]  int32, anything
//   expert_weights  [rows, experts_per_token]  float32; needed only for lists.weights
struct RowListsArgs {
  int64_t rows = 0, experts_per_token = 0;
  std::span<const int32_t> expert_ids;
  std::span<const float> expert_weights;
  int64_t first_expert = 0, experts = 0;
  RowLists lists;
};

// Throws Error(kInvalidArgument) with one sentence unless the Args are as above. Looks at sizes and
// addresses only, never at data.
void check(const RowListsArgs& args);

}  // namespace moxie
