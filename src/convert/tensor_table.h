// The tensors of a gpt-oss checkpoint by both their names.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace moxie {

enum class TensorKind : uint8_t {
  kMatrix,  // BF16
  kVector,  // BF16, or F32 where a tool widened it
  kCodes,   // U8 [experts, n, k / 32, 16]
  kScales,  // U8 [experts, n, k / 32]
};

struct TensorRow {
  std::string name;      // Hugging Face's
  std::string original;  // rows of the same original name stand together: q, k, v of one tensor
  TensorKind kind = TensorKind::kMatrix;
  std::vector<int64_t> shape;  // under `name`
};

// Every tensor a checkpoint of this configuration has; without lm_head if it is tied.
// Throws Error(kInvalidArgument) if hidden or intermediate size is no multiple of 32.
std::vector<TensorRow> tensor_table(const GptOssConfig& config);

// For a kCodes row: the dequantised tensor of transformers, "...gate_up_proj", [experts, k, n].
std::string dequantized_name(const TensorRow& row);
std::vector<int64_t> dequantized_shape(const TensorRow& row);

}  // namespace moxie
