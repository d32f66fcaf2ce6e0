// Views of matrices and vectors that operations take. They own nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bf16.h"
#include "base/dtype.h"

namespace moxie {

// Activations: `rows` rows of `cols` contiguous elements, `stride` elements from row to row.
// dtype is kBF16 or kF32.
struct Rows {
  void* data = nullptr;
  DType dtype = DType::kBF16;
  int64_t rows = 0, cols = 0, stride = 0;

  explicit operator bool() const { return data != nullptr; }
};

struct ConstRows {
  const void* data = nullptr;
  DType dtype = DType::kBF16;
  int64_t rows = 0, cols = 0, stride = 0;

  ConstRows() = default;
  ConstRows(const void* data_, DType dtype_, int64_t rows_, int64_t cols_, int64_t stride_)
      : data(data_), dtype(dtype_), rows(rows_), cols(cols_), stride(stride_) {}
  ConstRows(const Rows& r)
      : data(r.data), dtype(r.dtype), rows(r.rows), cols(r.cols), stride(r.stride) {}  // NOLINT
  explicit operator bool() const { return data != nullptr; }
};

// Columns [begin, begin + count) of `x`.
inline Rows columns(const Rows& x, int64_t begin, int64_t count) {
  return {static_cast<char*>(x.data) + begin * static_cast<int64_t>(size_bytes(x.dtype)), x.dtype,
          x.rows, count, x.stride};
}

// A dense weight matrix [n, k], bf16, k contiguous; the address is only 2-byte aligned (it usually
// lies in a mapped file).
struct Bf16Matrix {
  const bf16* data = nullptr;
  int64_t n = 0, k = 0;
};

// The order of bytes inside each MXFP4 matrix.
enum class Mxfp4Layout : uint8_t {
  kCheckpoint,  // mxfp4/block.h; no alignment
  kPrepacked,   // mxfp4/weight_layout.h; n % 16 == 0, codes and scales 16-byte aligned
};

// MXFP4 weight matrices of `experts` experts, each [n, k]: codes [experts, n, k/32, 16], scales
// [experts, n, k/32], in the checkpoint's packing where an Args struct has no layout field.
struct Mxfp4Matrices {
  const uint8_t* codes = nullptr;
  const uint8_t* scales = nullptr;
  int64_t experts = 0, n = 0, k = 0;

  const uint8_t* expert_codes(int64_t e) const { return codes + e * n * (k / 2); }
  const uint8_t* expert_scales(int64_t e) const { return scales + e * n * (k / 32); }
};

}  // namespace moxie
