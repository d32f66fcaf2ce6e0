#pragma once

#include <span>

#include "ops/tensor.h"

namespace moxie {

// out[r, :] = table[tokens[r], :], widened to out's dtype.
//
//   tokens  [rows]         int32, 0 <= id < table.n (REQUIRES)
//   table   [vocab, cols]  bf16
//   out     [rows, cols]
struct EmbedArgs {
  std::span<const int32_t> tokens;
  Bf16Matrix table;
  Rows out;
};

}  // namespace moxie
