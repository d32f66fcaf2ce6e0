// The checks that come before anything is launched. Built with and without CUDA.
#include "hopper/ops.h"

#include "hopper/launch.h"
#include "mxfp4/weight_layout.h"
#include "ops/check_views.h"

namespace moxie::hopper {
namespace {

constexpr int64_t kMaxMatrixSide = 65536;
constexpr int64_t kMaxFirstExpert = (int64_t{1} << 31) - 1 - kMaxExperts;  // ids are int32
constexpr int64_t kMaxPrepackDepth = 24576;  // 16 rows must fit into a CTA's shared memory

void check_limit(const char* op, const char* what, int64_t size, int64_t limit) {
  MOXIE_CHECK(size <= limit, kUnsupported, op, " on the GPU takes at most ", limit, " ", what,
              ", got ", size);
}

void check_matrix(const char* op, const char* what, int64_t n, int64_t k) {
  check_size(op, what, n);
  check_size(op, what, k);
  MOXIE_CHECK(mxfp4::has_weight_layout(n, k), kInvalidArgument, what, " of ", op,
              " must have a multiple of 16 rows and of 32 columns, got ", n, " x ", k);
  MOXIE_CHECK(n <= kMaxMatrixSide && k <= kMaxMatrixSide, kUnsupported, what, " of ", op,
              " on the GPU may have at most ", kMaxMatrixSide, " rows and columns, got ", n, " x ",
              k);
}

void check_layout(const char* op, Mxfp4Layout layout) {
  MOXIE_CHECK(layout == Mxfp4Layout::kPrepacked, kUnsupported, op,
              " on the GPU reads prepacked weights, these are in the checkpoint's order; prepack "
              "them first");
}

void check_bias(const char* op, const char* what, const float* bias) {
  MOXIE_CHECK(is_aligned(bias), kInvalidArgument, what, " of ", op, " must begin at a multiple of ",
              kViewAlignment, " bytes");
}

void check_list(const char* op, const char* what, const void* list) {
  MOXIE_CHECK(reinterpret_cast<uintptr_t>(list) % 4 == 0, kInvalidArgument, what, " of ", op,
              " must begin at a multiple of 4 bytes");
}

void check_logits(const char* op, const ConstRows& logits) {
  check_limit(op, "logits in a row", logits.cols, kMaxExperts);
  const auto element = static_cast<uintptr_t>(size_bytes(logits.dtype));
  MOXIE_CHECK(reinterpret_cast<uintptr_t>(logits.data) % element == 0, kInvalidArgument,
              "logits of ", op, " must begin at a multiple of ", element, " bytes");
}

void check_shape(const MoeShape& shape) {
  const char* op = "moe";
  check_size(op, "rows", shape.rows);
  check_matrix(op, "gate_up", 2 * shape.inner, shape.hidden);
  check_matrix(op, "down", shape.hidden, shape.inner);
  check_size(op, "experts", shape.experts);
  check_size(op, "num_experts", shape.num_experts);
  MOXIE_CHECK(shape.experts_per_token >= 1, kInvalidArgument, "experts_per_token of ", op,
              " must be at least 1, got ", shape.experts_per_token);
  check_limit(op, "rows", shape.rows, kMaxRows);
  check_limit(op, "experts", shape.experts, kMaxExperts);
  check_limit(op, "experts per token", shape.experts_per_token, kMaxExpertsPerToken);
}

void check_shape(const GroupedGemmShape& shape) {
  const char* op = "grouped_gemm";
  check_size(op, "rows", shape.rows);
  check_size(op, "experts", shape.experts);
  check_matrix(op, "weight", shape.n, shape.k);
  check_limit(op, "rows", shape.rows, kMaxRows * kMaxExpertsPerToken);
  check_limit(op, "experts", shape.experts, kMaxExperts);
}

void check_shape(const LinearShape& shape) {
  const char* op = "mxfp4_linear";
  check_size(op, "rows", shape.rows);
  check_matrix(op, "weight", shape.n, shape.k);
  check_limit(op, "rows", shape.rows, kMaxRows);
}

void check_shape(const RouteShape& shape) {
  const char* op = "route";
  check_size(op, "rows", shape.rows);
  check_size(op, "experts", shape.experts);
  MOXIE_CHECK(shape.experts_per_token >= 1, kInvalidArgument, "experts_per_token of ", op,
              " must be at least 1, got ", shape.experts_per_token);
  check_limit(op, "rows", shape.rows, kMaxRows);
  check_limit(op, "experts", shape.experts, kMaxExperts);
  check_limit(op, "experts per token", shape.experts_per_token, kMaxExpertsPerToken);
}

}  // namespace

void check_workspace(const char* op, const Workspace& workspace, int64_t needed) {
  MOXIE_CHECK(workspace.bytes >= needed, kInvalidArgument, op, " needs a workspace of ", needed,
              " bytes, got ", workspace.bytes);
  if (needed == 0) return;
  MOXIE_CHECK(workspace.data != nullptr, kInvalidArgument, "the workspace of ", op, " is null");
  MOXIE_CHECK(reinterpret_cast<uintptr_t>(workspace.data) % kWorkspaceAlignment == 0,
              kInvalidArgument, "the workspace of ", op, " must begin at a multiple of ",
              kWorkspaceAlignment, " bytes");
}

MoeShape shape_of(const MoeArgs& args) {
  return {.rows = args.x.rows,
          .hidden = args.gate_up.k,
          .inner = args.down.k,
          .experts = args.gate_up.experts,
          .experts_per_token = args.experts_per_token,
          .num_experts = args.logits ? args.logits.cols : 0,
          .activations = args.activations};
}
GroupedGemmShape shape_of(const ::moxie::GroupedGemmArgs& args) {
  return {args.rows, args.weight.experts, args.weight.n, args.weight.k};
}
LinearShape shape_of(const Mxfp4LinearArgs& args) {
  return {args.x.rows, args.weight.n, args.weight.k};
}
RouteShape shape_of(const RouteArgs& args) {
  return {args.logits.rows, args.experts, args.experts_per_token};
}
RouteShape shape_of(const RowListsArgs& args) {
  return {args.rows, args.experts, args.experts_per_token};
}

int64_t workspace_bytes(const MoeShape& shape) {
  check_shape(shape);
  return launch_workspace_bytes(shape);
}
int64_t workspace_bytes(const GroupedGemmShape& shape) {
  check_shape(shape);
  return launch_workspace_bytes(shape);
}
int64_t workspace_bytes(const LinearShape& shape) {
  check_shape(shape);
  return launch_workspace_bytes(shape);
}
int64_t workspace_bytes(const RouteShape& shape) {
  check_shape(shape);
  return launch_workspace_bytes(shape);
}

void run_moe(const MoeArgs& args, const Workspace& workspace, StreamHandle stream) {
  const char* op = "moe";
  check(args);
  MOXIE_CHECK(args.x.dtype == DType::kBF16, kUnsupported, "x of ", op,
              " on the GPU must be BF16, got ", name(args.x.dtype));
  check_layout(op, args.layout);
  check_row_alignment(op, "out", args.out);
  if (args.residual) check_row_alignment(op, "residual", args.residual);
  check_bias(op, "gate_up_bias", args.gate_up_bias);
  check_bias(op, "down_bias", args.down_bias);
  if (args.logits) check_logits(op, args.logits);
  check_list(op, "expert_ids", args.expert_ids.data());
  check_list(op, "weights", args.weights.data());
  check_workspace(op, workspace, workspace_bytes(shape_of(args)));
  launch(args, workspace, stream);
}

void run_grouped_gemm(const ::moxie::GroupedGemmArgs& args, const Workspace& workspace,
                      StreamHandle stream) {
  const char* op = "grouped_gemm";
  check(args);
  check_layout(op, args.layout);
  check_row_alignment(op, "out", args.out);
  check_bias(op, "bias", args.bias);
  check_list(op, "row_offsets", args.row_offsets.data());
  check_list(op, "gather", args.gather.data());
  check_list(op, "scatter", args.scatter.data());
  check_list(op, "row_weights", args.row_weights.data());
  check_workspace(op, workspace, workspace_bytes(shape_of(args)));
  launch(args, workspace, stream);
}

void run_mxfp4_linear(const Mxfp4LinearArgs& args, const Workspace& workspace,
                      StreamHandle stream) {
  const char* op = "mxfp4_linear";
  check(args);
  check_layout(op, args.layout);
  check_row_alignment(op, "out", args.out);
  if (args.residual) check_row_alignment(op, "residual", args.residual);
  check_bias(op, "bias", args.bias);
  check_workspace(op, workspace, workspace_bytes(shape_of(args)));
  launch(args, workspace, stream);
}

void run_route(const RouteArgs& args, const Workspace& workspace, StreamHandle stream) {
  const char* op = "route";
  check(args);
  check_logits(op, args.logits);
  check_list(op, "expert_ids", args.expert_ids.data());
  check_list(op, "weights", args.weights.data());
  check_workspace(op, workspace, workspace_bytes(shape_of(args)));
  launch(args, workspace, stream);
}

void run_row_lists(const RowListsArgs& args, const Workspace& workspace, StreamHandle stream) {
  const char* op = "route";
  check(args);
  check_limit(op, "experts before the first", args.first_expert, kMaxFirstExpert);
  check_list(op, "expert_ids", args.expert_ids.data());
  check_list(op, "weights", args.expert_weights.data());
  check_workspace(op, workspace, workspace_bytes(shape_of(args)));
  launch(args, workspace, stream);
}

void run_prepack(const ::moxie::PrepackArgs& args, StreamHandle stream) {
  check(args);
  const char* op = args.to == Mxfp4Layout::kPrepacked ? "prepack" : "unpack";
  check_limit(op, "columns", args.k, kMaxPrepackDepth);
  check_limit(op, "matrices", args.experts, kMaxMatrixSide - 1);  // of a launch's second dimension
  launch(args, stream);
}

void run_quantize_mxfp4(const QuantizeMxfp4Args& args, StreamHandle stream) {
  check(args);
  MOXIE_CHECK(args.values.rows <= 1 || args.values.stride == args.values.cols, kUnsupported,
              "quantize_mxfp4 on the GPU takes rows without gaps, but rows of ", args.values.cols,
              " lie ", args.values.stride, " apart");
  launch(args, stream);
}

void run_dequantize_mxfp4(const DequantizeMxfp4Args& args, StreamHandle stream) {
  check(args);
  MOXIE_CHECK(args.values.rows <= 1 || args.values.stride == args.values.cols, kUnsupported,
              "dequantize_mxfp4 on the GPU writes rows without gaps, but rows of ",
              args.values.cols, " lie ", args.values.stride, " apart");
  launch(args, stream);
}

}  // namespace moxie::hopper
