#include "ops/mxfp4_linear.h"

#include "ops/check_views.h"

namespace moxie {

void check(const Mxfp4LinearArgs& args) {
  const char* op = "mxfp4_linear";
  const Mxfp4Matrices& weight = args.weight;
  const bool swiglu = args.activation == Mxfp4LinearArgs::Activation::kSwiglu;
  MOXIE_CHECK(weight.experts == 1, kInvalidArgument, op, " takes one weight matrix, got ",
              weight.experts);
  check_weight(op, "weight", weight, args.layout);
  MOXIE_CHECK(!swiglu || weight.n % 2 == 0, kInvalidArgument,
              "SwiGLU takes pairs of rows, but weight of ", op, " has ", weight.n);
  MOXIE_CHECK(!swiglu || !args.residual, kInvalidArgument, op,
              " adds a residual only without SwiGLU");
  const int64_t rows = args.x.rows;
  check_rows(op, "x", args.x, DType::kBF16, rows, weight.k);
  check_row_alignment(op, "x", args.x);
  check_rows(op, "out", args.out, DType::kBF16, rows, swiglu ? weight.n / 2 : weight.n);
  if (args.residual) check_rows(op, "residual", args.residual, DType::kBF16, rows, weight.n);
  MOXIE_CHECK(!overlap(args.x, args.out), kInvalidArgument, "x and out of ", op,
              " must not overlap");
}

}  // namespace moxie
