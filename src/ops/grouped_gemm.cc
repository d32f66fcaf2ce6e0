#include "ops/grouped_gemm.h"

#include "ops/check_views.h"

namespace moxie {

void check(const GroupedGemmArgs& args) {
  const char* op = "grouped_gemm";
  const Mxfp4Matrices& weight = args.weight;
  const bool swiglu = args.activation == GroupedGemmArgs::Activation::kSwiglu;
  check_weight(op, "weight", weight, args.layout);
  MOXIE_CHECK(!swiglu || weight.n % 2 == 0, kInvalidArgument,
              "SwiGLU takes pairs of rows, but weight of ", op, " has ", weight.n);
  check_size(op, "rows", args.rows);
  check_rows(op, "x", args.x, DType::kBF16, args.gather.empty() ? args.rows : args.x.rows,
             weight.k);
  check_row_alignment(op, "x", args.x);
  check_rows(op, "out", args.out, DType::kBF16, args.scatter.empty() ? args.rows : args.out.rows,
             swiglu ? weight.n / 2 : weight.n);
  check_span(op, "row_offsets", args.row_offsets, weight.experts + 1);
  check_span(op, "gather", args.gather, args.rows, true);
  check_span(op, "scatter", args.scatter, args.rows, true);
  check_span(op, "row_weights", args.row_weights, args.rows, true);
  MOXIE_CHECK(!swiglu || args.row_weights.empty(), kInvalidArgument, op,
              " multiplies by row_weights only without SwiGLU");
  MOXIE_CHECK(!overlap(args.x, args.out), kInvalidArgument, "x and out of ", op,
              " must not overlap");
}

}  // namespace moxie
