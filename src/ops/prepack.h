// Between the checkpoint's order of bytes and that of the GPU kernels.
#pragma once

#include <cstdint>

#include "ops/tensor.h"

namespace moxie {

// Permutes MXFP4 matrices in place to the layout `to`, from the other one: exactly, and exactly
// back. Sizes stay as they are; whoever holds the matrices keeps their layout in mind.
//
//   codes   [experts, n, k / 2]   bytes, 16-byte aligned
//   scales  [experts, n, k / 32]  bytes, 16-byte aligned
//
// Source  mxfp4/weight_layout.h
struct PrepackArgs {
  Mxfp4Layout to = Mxfp4Layout::kPrepacked;
  uint8_t* codes = nullptr;
  uint8_t* scales = nullptr;
  int64_t experts = 0, n = 0, k = 0;
};

// Throws Error(kInvalidArgument) with one sentence unless the Args are as above.
void check(const PrepackArgs& args);

}  // namespace moxie
