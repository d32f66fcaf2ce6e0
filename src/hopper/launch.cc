#include "hopper/launch.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/linear_stream.h"
#include "hopper/on_device.h"
#include "hopper/prepack.h"
#include "hopper/quantize.h"

namespace moxie::hopper {
namespace {

// Rows of one launch of linear_stream: its shared memory holds 16 rows of up to 4288 columns, or 8
// of up to 9088.
int64_t stream_rows(const Mxfp4LinearArgs& args) {
  const int n = static_cast<int>(args.weight.n), k = static_cast<int>(args.weight.k);
  for (const int rows : {16, 8})
    if (supports_linear_stream(rows, n, k)) return rows;
  throw make_error(ErrorCode::kUnsupported,
                   "mxfp4_linear on the GPU has no kernel for a weight of ", n, " x ", k,
                   "; it takes up to 9088 columns");
}

[[noreturn]] void not_yet(const char* op) {
  throw make_error(ErrorCode::kUnsupported, op,
                   " is not among the GPU kernels of this version of moxie");
}

void launch_stream(const Mxfp4LinearArgs& args, int64_t first_row, int64_t rows,
                   const Device& device, StreamHandle stream) {
  const auto first = [&](const ConstRows& view) {
    const auto* data = static_cast<const bf16*>(view.data);
    return data == nullptr ? nullptr : data + first_row * view.stride;
  };
  LinearStreamArgs of_rows;
  of_rows.x = first(args.x);
  of_rows.codes = args.weight.codes;
  of_rows.scales = args.weight.scales;
  of_rows.bias = args.bias;
  of_rows.residual = first(args.residual);
  of_rows.out = static_cast<bf16*>(args.out.data) + first_row * args.out.stride;
  of_rows.rows = static_cast<int>(rows);
  of_rows.n = static_cast<int>(args.weight.n);
  of_rows.k = static_cast<int>(args.weight.k);
  of_rows.x_stride = args.x.stride;
  of_rows.residual_stride = args.residual.stride;
  of_rows.out_stride = args.out.stride;
  of_rows.swiglu = args.activation == Mxfp4LinearArgs::Activation::kSwiglu;
  of_rows.alpha = args.alpha;
  of_rows.limit = args.limit;
  const LinearStreamConfig config =
      select_linear_stream_config(of_rows.rows, of_rows.n, of_rows.k, device.num_sms);
  MOXIE_CUDA_CHECK(launch_linear_stream(of_rows, config, false, stream));
}

}  // namespace

int64_t launch_workspace_bytes(const GroupedGemmShape&) { not_yet("grouped_gemm"); }
int64_t launch_workspace_bytes(const LinearShape&) { return 0; }
int64_t launch_workspace_bytes(const RouteShape&) { not_yet("route"); }

void launch(const ::moxie::GroupedGemmArgs&, const Workspace&, StreamHandle) {
  not_yet("grouped_gemm");
}
void launch(const RouteArgs&, const Workspace&, StreamHandle) { not_yet("route"); }
void launch(const RowListsArgs&, const Workspace&, StreamHandle) { not_yet("route"); }

void launch(const Mxfp4LinearArgs& args, const Workspace&, StreamHandle stream) {
  const char* op = "mxfp4_linear";
  const Device device = require_device(op);
  if (args.x.rows == 0 || args.weight.n == 0) return;
  const int64_t at_once = stream_rows(args);
  Pointers(op, device)
      .check("x", args.x.data)
      .check("codes", args.weight.codes)
      .check("scales", args.weight.scales)
      .check("bias", args.bias)
      .check("residual", args.residual.data)
      .check("out", args.out.data);
  for (int64_t row = 0; row < args.x.rows; row += at_once)
    launch_stream(args, row, std::min(at_once, args.x.rows - row), device, stream);
}

void launch(const ::moxie::PrepackArgs& args, StreamHandle stream) {
  const bool forward = args.to == Mxfp4Layout::kPrepacked;
  const char* op = forward ? "prepack" : "unpack";
  const Device device = require_device(op);
  Pointers(op, device).check("codes", args.codes).check("scales", args.scales);
  MOXIE_CUDA_CHECK(launch_prepack({forward ? PrepackDirection::kPrepack : PrepackDirection::kUnpack,
                                   args.codes, args.scales, args.experts, args.n, args.k},
                                  stream));
}

void launch(const QuantizeMxfp4Args& args, StreamHandle stream) {
  const char* op = "quantize_mxfp4";
  const Device device = require_device(op);
  Pointers(op, device)
      .check("values", args.values.data)
      .check("codes", args.codes)
      .check("scales", args.scales);
  MOXIE_CUDA_CHECK(
      launch_quantize({static_cast<const bf16*>(args.values.data), args.codes, args.scales,
                       args.values.rows * (args.values.cols / mxfp4::kBlock), args.rule},
                      stream));
}

void launch(const DequantizeMxfp4Args& args, StreamHandle stream) {
  const char* op = "dequantize_mxfp4";
  const Device device = require_device(op);
  Pointers(op, device)
      .check("codes", args.codes)
      .check("scales", args.scales)
      .check("values", args.values.data);
  MOXIE_CUDA_CHECK(launch_dequantize({args.codes, args.scales, static_cast<bf16*>(args.values.data),
                                      args.values.rows * (args.values.cols / mxfp4::kBlock)},
                                     stream));
}

}  // namespace moxie::hopper
