#include "ops/mxfp4_linear.h"

#include <cstdint>

#include "base/check.h"
#include "mxfp4/weight_layout.h"

namespace moxie {
namespace {

void check_rows(const char* what, const ConstRows& view, int64_t rows, int64_t cols) {
  MOXIE_CHECK(view.dtype == DType::kBF16, kUnsupported, what,
              " of an MXFP4 linear must be bf16, got ", name(view.dtype));
  MOXIE_CHECK(view.rows == rows && view.cols == cols, kInvalidArgument, what,
              " of this MXFP4 linear must be ", rows, " x ", cols, ", got ", view.rows, " x ",
              view.cols);
  MOXIE_CHECK(view.stride >= cols || rows <= 1, kInvalidArgument, what, " has rows of ", cols,
              " elements that lie only ", view.stride, " apart");
  MOXIE_CHECK(view.data != nullptr || rows * cols == 0, kInvalidArgument, what,
              " of an MXFP4 linear is null");
}

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace

void check(const Mxfp4LinearArgs& args) {
  const Mxfp4Matrices& weight = args.weight;
  const bool swiglu = args.activation == Mxfp4LinearArgs::Activation::kSwiglu;
  MOXIE_CHECK(weight.experts == 1, kInvalidArgument,
              "an MXFP4 linear takes one weight matrix, got ", weight.experts);
  MOXIE_CHECK(weight.n >= 0 && weight.k >= 0 && weight.k % mxfp4::kBlock == 0, kInvalidArgument,
              "the weight of an MXFP4 linear must have a multiple of 32 columns, got ", weight.n,
              " x ", weight.k);
  MOXIE_CHECK(weight.n * weight.k == 0 || (weight.codes != nullptr && weight.scales != nullptr),
              kInvalidArgument, "codes or scales of an MXFP4 linear are null");
  if (args.layout == Mxfp4Layout::kPrepacked) {
    MOXIE_CHECK(mxfp4::has_weight_layout(weight.n, weight.k), kInvalidArgument,
                "a prepacked weight has a multiple of 16 rows, got ", weight.n);
    MOXIE_CHECK(aligned(weight.codes) && aligned(weight.scales), kInvalidArgument,
                "codes and scales of a prepacked weight must be 16-byte aligned");
  }
  MOXIE_CHECK(!swiglu || weight.n % 2 == 0, kInvalidArgument,
              "SwiGLU takes pairs of rows, but the weight has ", weight.n);
  MOXIE_CHECK(!swiglu || !args.residual, kInvalidArgument,
              "an MXFP4 linear adds a residual only without SwiGLU");
  check_rows("x", args.x, args.x.rows, weight.k);
  MOXIE_CHECK(aligned(args.x.data) && (args.x.rows <= 1 || args.x.stride % 8 == 0),
              kInvalidArgument, "rows of x must be 16-byte aligned");
  check_rows("out", args.out, args.x.rows, swiglu ? weight.n / 2 : weight.n);
  if (args.residual) check_rows("residual", args.residual, args.x.rows, weight.n);
}

}  // namespace moxie
