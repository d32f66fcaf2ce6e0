// Experts' matrices between the packed layout, [n, k] in MXFP4 blocks along k, and transformers'
// dequantised one, [k, n]: the axes are exchanged.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "mxfp4/block.h"

namespace moxie {

// Rows k_begin .. k_end of the transposed matrix, bf16:
//   out[k - k_begin, n] = decode(codes[n, k / 32], scales[n, k / 32])[k % 32]
//
//   codes   [n, k / 32, 16]            one expert's
//   scales  [n, k / 32]
//   out     [k_end - k_begin, n]
//
// REQUIRES: k, k_begin and k_end are multiples of 32.
struct DequantizeTransposedArgs {
  const uint8_t* codes = nullptr;
  const uint8_t* scales = nullptr;
  int64_t n = 0, k = 0, k_begin = 0, k_end = 0;
  bf16* out = nullptr;
};
void dequantize_transposed(const DequantizeTransposedArgs& args, ThreadPool& pool);

// Rows n_begin .. n_end of the packed matrix from its transpose.
//
//   in      [k, n]                       bf16, F32 or F16: `element` tells
//   codes   [n_end - n_begin, k/32, 16]  out
//   scales  [n_end - n_begin, k/32]      out
//
// Returns false if some element is NaN or infinite, or if a block's scale is 253 or more, where
// large codes pass the largest finite value; what was written then means nothing.
enum class SourceElement : uint8_t { kBF16, kF32, kF16 };
struct QuantizeTransposedArgs {
  const uint8_t* in = nullptr;  // elements may lie at any address
  SourceElement element = SourceElement::kBF16;
  int64_t n = 0, k = 0, n_begin = 0, n_end = 0;
  mxfp4::ScaleRule rule = mxfp4::ScaleRule::kRoundUp;
  uint8_t* codes = nullptr;
  uint8_t* scales = nullptr;
};
bool quantize_transposed(const QuantizeTransposedArgs& args, ThreadPool& pool);

// `count` elements widened to float; exact. In: at any address.
void widen(const uint8_t* in, SourceElement element, int64_t count, float* out);

}  // namespace moxie
