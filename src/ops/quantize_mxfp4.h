// bf16 matrices to MXFP4 and back.
#pragma once

#include <cstdint>

#include "mxfp4/block.h"
#include "ops/tensor.h"

namespace moxie {

// Every 32 elements of a row become 16 bytes of codes and a scale, by mxfp4::encode_block, bit for
// bit.
//
//   values  [rows, k]          bf16, rows 16-byte aligned
//   codes   [rows, k/32, 16]   the checkpoint's order, 16-byte aligned
//   scales  [rows, k/32]
struct QuantizeMxfp4Args {
  ConstRows values;
  uint8_t* codes = nullptr;
  uint8_t* scales = nullptr;
  mxfp4::ScaleRule rule = mxfp4::ScaleRule::kRoundUp;
};

// The other way, by mxfp4::decode_element<bf16>, bit for bit: exact but for scales 253 and 254,
// which are clamped, and 255, which gives NaN.
struct DequantizeMxfp4Args {
  const uint8_t* codes = nullptr;
  const uint8_t* scales = nullptr;
  Rows values;
};

// Throw Error(kInvalidArgument), or kUnsupported for a dtype, with one sentence, unless the Args
// are as above. Look at sizes and addresses only, never at data.
void check(const QuantizeMxfp4Args& args);
void check(const DequantizeMxfp4Args& args);

}  // namespace moxie
