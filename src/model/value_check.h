// Reads every tensor of a model folder and looks for values that no healthy checkpoint holds.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "checkpoint/checkpoint.h"

namespace moxie {

struct ValueReport {
  uint64_t bytes_read = 0;
  // Of all tensors whose name ends in "scales": how often each E8M0 byte occurs.
  std::array<uint64_t, 256> scale_histogram = {};
  // Of all tensors whose name ends in "blocks": how many codes, and how many of them mean zero.
  uint64_t num_codes = 0, num_zero_codes = 0;
  // A sentence for each tensor that is not healthy, naming file, tensor, expected and found.
  std::vector<std::string> problems;
};

// Problems are: NaN or infinity in BF16, F16, F32 and F64; a scale of 255 (NaN); a scale of 253 or
// 254 whose block holds a code that overflows; scales and blocks of different shapes. Integers of
// other tensors are read and not judged.
//
// Runs in the calling thread, at the speed of memory or disk; pages are given back as it goes.
// `progress` is called now and then and may throw to cancel.
ValueReport check_tensor_values(
    const TensorFolder& folder,
    FunctionRef<void(uint64_t done_bytes, uint64_t total_bytes, std::string_view tensor)> progress);

// How many values are NaN or infinite, and the first of them (`first` is untouched if none).
// `dtype` is BF16, F16, F32 or F64. Element `bytes` may start at any address.
uint64_t count_not_finite(std::span<const uint8_t> bytes, DType dtype, uint64_t* first);

}  // namespace moxie
