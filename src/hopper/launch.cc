#include "hopper/launch.h"

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/mxfp4_linear.h"
#include "hopper/on_device.h"
#include "hopper/prepack.h"
#include "hopper/quantize.h"

namespace moxie::hopper {

int64_t launch_workspace_bytes(const LinearShape&) { return 0; }

void launch(const Mxfp4LinearArgs& args, const Workspace&, StreamHandle stream) {
  const char* op = "mxfp4_linear";
  const Device device = require_device(op);
  if (args.x.rows == 0 || args.weight.n == 0) return;
  LinearStreamArgs linear;
  linear.x = static_cast<const bf16*>(args.x.data);
  linear.codes = args.weight.codes;
  linear.scales = args.weight.scales;
  linear.bias = args.bias;
  linear.residual = static_cast<const bf16*>(args.residual.data);
  linear.out = static_cast<bf16*>(args.out.data);
  linear.rows = static_cast<int>(args.x.rows);
  linear.n = static_cast<int>(args.weight.n);
  linear.k = static_cast<int>(args.weight.k);
  linear.x_stride = args.x.stride;
  linear.residual_stride = args.residual.stride;
  linear.out_stride = args.out.stride;
  linear.swiglu = args.activation == Mxfp4LinearArgs::Activation::kSwiglu;
  linear.alpha = args.alpha;
  linear.limit = args.limit;
  MOXIE_CHECK(supports_mxfp4_linear(linear.rows, linear.n, linear.k), kUnsupported, op,
              " on the GPU has no kernel for a weight of ", linear.n, " x ", linear.k);
  Pointers(op, device)
      .check("x", args.x.data)
      .check("codes", args.weight.codes)
      .check("scales", args.weight.scales)
      .check("bias", args.bias)
      .check("residual", args.residual.data)
      .check("out", args.out.data);
  // The kernel before this one may be what writes the weights.
  const bool overlap_previous = false;
  MOXIE_CUDA_CHECK(launch_mxfp4_linear(
      linear, select_mxfp4_linear_config(linear.rows, linear.n, linear.k, device.num_sms),
      overlap_previous, stream));
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
