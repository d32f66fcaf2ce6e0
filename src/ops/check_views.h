// What the checks of several contracts have in common. `op` and `what` are words of the sentence:
// "x of mxfp4_linear must be 3 x 96, got 3 x 64". Sizes and addresses are looked at, never data.
#pragma once

#include <cstdint>
#include <span>

#include "base/check.h"
#include "ops/tensor.h"

namespace moxie {

// Vectors that kernels move are 16 bytes wide.
inline constexpr int64_t kViewAlignment = 16;

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kViewAlignment == 0;
}

// A size that is not negative and whose products with other sizes stay far from overflow.
void check_size(const char* op, const char* what, int64_t size);
// rows x cols of `dtype` in rows that do not run into each other, not null unless empty.
void check_rows(const char* op, const char* what, const ConstRows& view, DType dtype, int64_t rows,
                int64_t cols);
// Each row of `view` begins at a multiple of 16 bytes.
void check_row_alignment(const char* op, const char* what, const ConstRows& view);
// k a multiple of 32, not null unless empty, and what `layout` asks for.
void check_weight(const char* op, const char* what, const Mxfp4Matrices& weight,
                  Mxfp4Layout layout);
// Whether some byte belongs to both; true in doubt, that is when strides differ and ranges meet.
bool overlap(const ConstRows& a, const ConstRows& b);

// `count` elements, or with `may_be_absent` none; not null when there are any.
template <class T>
void check_span(const char* op, const char* what, std::span<T> values, int64_t count,
                bool may_be_absent = false) {
  if (may_be_absent && values.empty()) return;
  MOXIE_CHECK(static_cast<int64_t>(values.size()) == count, kInvalidArgument, what, " of ", op,
              " must have ", count, " elements, got ", values.size());
  MOXIE_CHECK(values.data() != nullptr || count == 0, kInvalidArgument, what, " of ", op,
              " is null");
}

}  // namespace moxie
