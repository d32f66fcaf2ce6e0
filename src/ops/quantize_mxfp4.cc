#include "ops/quantize_mxfp4.h"

#include "ops/check_views.h"

namespace moxie {
namespace {

void check_both(const char* op, const ConstRows& values, const uint8_t* codes,
                const uint8_t* scales) {
  check_rows(op, "values", values, DType::kBF16, values.rows, values.cols);
  check_row_alignment(op, "values", values);
  check_weight(op, "values", {codes, scales, 1, values.rows, values.cols},
               Mxfp4Layout::kCheckpoint);
  MOXIE_CHECK(is_aligned(codes), kInvalidArgument, "codes of ", op, " must begin at a multiple of ",
              kViewAlignment, " bytes");
}

}  // namespace

void check(const QuantizeMxfp4Args& args) {
  const char* op = "quantize_mxfp4";
  check_both(op, args.values, args.codes, args.scales);
  const auto rule = static_cast<int>(args.rule);
  MOXIE_CHECK(rule >= 0 && rule <= static_cast<int>(mxfp4::ScaleRule::kEven), kInvalidArgument,
              "the scale rule of ", op, " is ", rule, ", which is none");
}

void check(const DequantizeMxfp4Args& args) {
  check_both("dequantize_mxfp4", args.values, args.codes, args.scales);
}

}  // namespace moxie
