#include "ops/check_views.h"

#include <limits>

#include "mxfp4/weight_layout.h"

namespace moxie {
namespace {

constexpr int64_t kMaxSize = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxElements = int64_t{1} << 60;

}  // namespace

void check_size(const char* op, const char* what, int64_t size) {
  MOXIE_CHECK(size >= 0 && size <= kMaxSize, kInvalidArgument, what, " of ", op,
              " must be between 0 and ", kMaxSize, ", got ", size);
}

void check_rows(const char* op, const char* what, const ConstRows& view, DType dtype, int64_t rows,
                int64_t cols) {
  MOXIE_CHECK(view.dtype == dtype, kUnsupported, what, " of ", op, " must be ", name(dtype),
              ", got ", name(view.dtype));
  MOXIE_CHECK(view.rows == rows && view.cols == cols, kInvalidArgument, what, " of ", op,
              " must be ", rows, " x ", cols, ", got ", view.rows, " x ", view.cols);
  check_size(op, what, rows);
  check_size(op, what, cols);
  MOXIE_CHECK(view.stride >= cols || rows <= 1, kInvalidArgument, "rows of ", what, " of ", op,
              " have ", cols, " elements but lie only ", view.stride, " apart");
  MOXIE_CHECK(rows <= 1 || view.stride <= kMaxElements / rows, kInvalidArgument, "rows of ", what,
              " of ", op, " lie ", view.stride, " elements apart, which no memory holds");
  MOXIE_CHECK(view.data != nullptr || rows * cols == 0, kInvalidArgument, what, " of ", op,
              " is null");
}

void check_row_alignment(const char* op, const char* what, const ConstRows& view) {
  if (view.rows * view.cols == 0) return;
  const int64_t stride_bytes = view.stride * static_cast<int64_t>(size_bytes(view.dtype));
  MOXIE_CHECK(is_aligned(view.data), kInvalidArgument, what, " of ", op,
              " must begin at a multiple of ", kViewAlignment, " bytes");
  MOXIE_CHECK(view.rows <= 1 || stride_bytes % kViewAlignment == 0, kInvalidArgument, "rows of ",
              what, " of ", op, " must be a multiple of ", kViewAlignment, " bytes apart, got ",
              stride_bytes);
}

void check_weight(const char* op, const char* what, const Mxfp4Matrices& weight,
                  Mxfp4Layout layout) {
  check_size(op, what, weight.experts);
  check_size(op, what, weight.n);
  check_size(op, what, weight.k);
  MOXIE_CHECK(weight.k % mxfp4::kBlock == 0, kInvalidArgument, what, " of ", op,
              " must have a multiple of ", mxfp4::kBlock, " columns, got ", weight.n, " x ",
              weight.k);
  const bool empty = weight.experts == 0 || weight.n == 0 || weight.k == 0;
  MOXIE_CHECK(empty || weight.experts <= kMaxElements / weight.n / weight.k, kInvalidArgument, what,
              " of ", op, " has ", weight.experts, " x ", weight.n, " x ", weight.k,
              " elements, which no memory holds");
  MOXIE_CHECK(empty || (weight.codes != nullptr && weight.scales != nullptr), kInvalidArgument,
              "codes or scales of ", what, " of ", op, " are null");
  MOXIE_CHECK(layout == Mxfp4Layout::kCheckpoint || layout == Mxfp4Layout::kPrepacked,
              kInvalidArgument, "the layout of ", op, " is ", static_cast<int>(layout),
              ", which is none");
  if (layout == Mxfp4Layout::kCheckpoint) return;
  MOXIE_CHECK(mxfp4::has_weight_layout(weight.n, weight.k), kInvalidArgument, what, " of ", op,
              " is prepacked, so it has a multiple of ", mxfp4::kStripRows, " rows; got ",
              weight.n);
  MOXIE_CHECK(is_aligned(weight.codes) && is_aligned(weight.scales), kInvalidArgument,
              "codes and scales of ", what, " of ", op,
              " are prepacked, so they must begin at multiples of ", kViewAlignment, " bytes");
}

bool overlap(const ConstRows& a, const ConstRows& b) {
  if (a.data == nullptr || b.data == nullptr || a.rows * a.cols == 0 || b.rows * b.cols == 0)
    return false;
  const auto place = [](const ConstRows& view) {
    const auto element = static_cast<int64_t>(size_bytes(view.dtype));
    struct Bytes {
      uintptr_t begin, end, stride, width;
    } bytes{};
    bytes.begin = reinterpret_cast<uintptr_t>(view.data);
    bytes.width = static_cast<uintptr_t>(view.cols * element);
    bytes.stride = static_cast<uintptr_t>(view.stride * element);
    bytes.end =
        bytes.begin + static_cast<uintptr_t>((view.rows - 1) * view.stride * element) + bytes.width;
    return bytes;
  };
  const auto x = place(a), y = place(b);
  if (x.end <= y.begin || y.end <= x.begin) return false;
  if (x.stride != y.stride || x.stride == 0) return true;
  // Columns of one matrix: apart unless the one's come round into the other's.
  const uintptr_t forward = y.begin >= x.begin
                                ? (y.begin - x.begin) % x.stride
                                : (x.stride - (x.begin - y.begin) % x.stride) % x.stride;
  return forward < x.width || x.stride - forward < y.width;
}

}  // namespace moxie
