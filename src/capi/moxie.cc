// include/moxie/moxie.h over hopper/ops.h: structs in, Args out. Checks are the operations' own.
#include "moxie/moxie.h"

#include <span>

#include "capi/call.h"
#include "hopper/ops.h"
#include "ops/check_views.h"

namespace moxie::capi {
namespace {

DType dtype_of(const char* name, const char* field, uint32_t dtype) {
  check_choice(name, field, dtype, MOXIE_DTYPE_F32);
  return dtype == MOXIE_DTYPE_F32 ? DType::kF32 : DType::kBF16;
}

Mxfp4Layout layout_of(const char* name, uint32_t layout) {
  check_choice(name, "layout", layout, MOXIE_LAYOUT_PREPACKED);
  return static_cast<Mxfp4Layout>(layout);
}

Mxfp4LinearArgs::Activation activation_of(const char* name, uint32_t activation) {
  check_choice(name, "activation", activation, MOXIE_ACTIVATION_SWIGLU);
  return static_cast<Mxfp4LinearArgs::Activation>(activation);
}

Activations activations_of(const char* name, uint32_t activations) {
  check_choice(name, "activations", activations, MOXIE_ACTIVATIONS_FP8);
  return static_cast<Activations>(activations);
}

WeightRounding rounding_of(const char* name, uint32_t rounding) {
  check_choice(name, "weight_rounding", rounding, MOXIE_ROUND_NOT);
  return static_cast<WeightRounding>(rounding);
}

float or_default(float value, float otherwise) { return value == 0 ? otherwise : value; }

int64_t stride_or(int64_t stride, int64_t cols) { return stride == 0 ? cols : stride; }

ConstRows matrix(const void* data, int64_t rows, int64_t cols, int64_t stride,
                 DType dtype = DType::kBF16) {
  return {data, dtype, rows, cols, stride_or(stride, cols)};
}
Rows matrix(void* data, int64_t rows, int64_t cols, int64_t stride) {
  return {data, DType::kBF16, rows, cols, stride_or(stride, cols)};
}

// A list that must be there: null is left to the operation's check. REQUIRES count >= 0.
template <class T>
std::span<T> list(T* data, int64_t count) {
  return {data, static_cast<size_t>(count)};
}
template <class T>
std::span<T> optional_list(T* data, int64_t count) {
  return data == nullptr ? std::span<T>() : list(data, count);
}

int64_t slots_of(const char* op, int64_t rows, int64_t per_row) {
  check_size(op, "rows", rows);
  check_size(op, "experts_per_token", per_row);
  return rows * per_row;
}

hopper::Workspace workspace_of(void* data, uint64_t bytes) {
  constexpr uint64_t kMost = INT64_MAX;
  return {data, static_cast<int64_t>(std::min(bytes, kMost))};
}

hopper::StreamHandle stream_of(void* stream) { return static_cast<hopper::StreamHandle>(stream); }

template <class Shape>
void write_workspace_bytes(const Shape& shape, uint64_t* bytes) {
  MOXIE_CHECK(bytes != nullptr, kInvalidArgument,
              "there is no place for the number of bytes: null");
  *bytes = static_cast<uint64_t>(hopper::workspace_bytes(shape));
}

#define MOXIE_READ(args, type) read_struct<type>(args, #type)

void prepack(const moxie_prepack_args* given, Mxfp4Layout to, void* stream) {
  const moxie_prepack_args args = MOXIE_READ(given, moxie_prepack_args);
  const Mxfp4Layout from = layout_of("moxie_prepack_args", args.layout);
  MOXIE_CHECK(
      from != to, kInvalidArgument, "layout says that the weights are ",
      to == Mxfp4Layout::kPrepacked ? "prepacked already" : "in the checkpoint's order already");
  hopper::run_prepack({to, args.codes, args.scales, args.experts, args.n, args.k},
                      stream_of(stream));
}

void moe(const moxie_moe_args* given, void* stream) {
  const char* name = "moxie_moe_args";
  const moxie_moe_args args = MOXIE_READ(given, moxie_moe_args);
  check_choice(name, "reserved", args.reserved, 0);
  const int64_t slots = slots_of("moe", args.rows, args.experts_per_token);
  MoeArgs moe;
  moe.x = matrix(args.x, args.rows, args.hidden_size, args.x_stride);
  moe.experts_per_token = args.experts_per_token;
  if (args.logits != nullptr)
    moe.logits = matrix(args.logits, args.rows, args.num_logits, args.logits_stride,
                        dtype_of(name, "logits_dtype", args.logits_dtype));
  moe.rounding = rounding_of(name, args.weight_rounding);
  // Without logits both are needed; with logits neither may be there.
  const auto given_list = [&](auto* data) {
    return args.logits == nullptr ? list(data, slots) : optional_list(data, slots);
  };
  moe.expert_ids = given_list(args.expert_ids);
  moe.weights = given_list(args.expert_weights);
  moe.first_expert = args.first_expert;
  moe.foreign = ForeignExperts::kSkip;
  check_size("moe", "intermediate_size", args.intermediate_size);
  moe.gate_up = {args.gate_up_codes, args.gate_up_scales, args.experts, 2 * args.intermediate_size,
                 args.hidden_size};
  moe.down = {args.down_codes, args.down_scales, args.experts, args.hidden_size,
              args.intermediate_size};
  moe.layout = layout_of(name, args.layout);
  moe.gate_up_bias = args.gate_up_bias;
  moe.down_bias = args.down_bias;
  moe.alpha = or_default(args.alpha, moe.alpha);
  moe.limit = or_default(args.limit, moe.limit);
  if (args.residual != nullptr)
    moe.residual = matrix(args.residual, args.rows, args.hidden_size, args.residual_stride);
  moe.out = matrix(args.out, args.rows, args.hidden_size, args.out_stride);
  moe.activations = activations_of(name, args.activations);
  moe.num_wide_tiles = args.num_wide_tiles;
  hopper::run_moe(moe, workspace_of(args.workspace, args.workspace_bytes), stream_of(stream));
}

void grouped_gemm(const moxie_grouped_gemm_args* given, void* stream) {
  const char* name = "moxie_grouped_gemm_args";
  const moxie_grouped_gemm_args args = MOXIE_READ(given, moxie_grouped_gemm_args);
  check_choice(name, "reserved", args.reserved, 0);
  check_size("grouped_gemm", "rows", args.rows);
  check_size("grouped_gemm", "experts", args.experts);
  ::moxie::GroupedGemmArgs gemm;
  gemm.rows = args.rows;
  gemm.x = matrix(args.x, args.gather != nullptr ? args.x_rows : args.rows, args.k, args.x_stride);
  gemm.weight = {args.codes, args.scales, args.experts, args.n, args.k};
  gemm.layout = layout_of(name, args.layout);
  gemm.bias = args.bias;
  gemm.row_offsets = list(args.row_offsets, args.experts + 1);
  gemm.gather = optional_list(args.gather, args.rows);
  gemm.scatter = optional_list(args.scatter, args.rows);
  gemm.row_weights = optional_list(args.row_weights, args.rows);
  gemm.activation = activation_of(name, args.activation);
  gemm.alpha = or_default(args.alpha, gemm.alpha);
  gemm.limit = or_default(args.limit, gemm.limit);
  const bool halves = gemm.activation == ::moxie::GroupedGemmArgs::Activation::kSwiglu;
  gemm.out = matrix(args.out, args.scatter != nullptr ? args.out_rows : args.rows,
                    halves ? args.n / 2 : args.n, args.out_stride);
  hopper::run_grouped_gemm(gemm, workspace_of(args.workspace, args.workspace_bytes),
                           stream_of(stream));
}

void route(const moxie_route_args* given, void* stream) {
  const char* name = "moxie_route_args";
  const moxie_route_args args = MOXIE_READ(given, moxie_route_args);
  check_choice(name, "reserved", args.reserved, 0);
  const int64_t slots = slots_of("route", args.rows, args.experts_per_token);
  check_size("route", "experts", args.experts);
  const int64_t num_offsets = args.experts + 1;
  const RowLists lists = {.row_offsets = args.logits == nullptr
                                             ? list(args.row_offsets, num_offsets)
                                             : optional_list(args.row_offsets, num_offsets),
                          .rows = optional_list(args.list_rows, slots),
                          .slots = optional_list(args.list_slots, slots),
                          .positions = optional_list(args.positions, slots),
                          .weights = optional_list(args.list_weights, slots)};
  const hopper::Workspace workspace = workspace_of(args.workspace, args.workspace_bytes);
  if (args.logits == nullptr) {
    hopper::run_row_lists({.rows = args.rows,
                           .experts_per_token = args.experts_per_token,
                           .expert_ids = list<const int32_t>(args.expert_ids, slots),
                           .expert_weights = list<const float>(args.expert_weights, slots),
                           .first_expert = args.first_expert,
                           .experts = args.experts,
                           .lists = lists},
                          workspace, stream_of(stream));
    return;
  }
  hopper::run_route({.logits = matrix(args.logits, args.rows, args.num_logits, args.logits_stride,
                                      dtype_of(name, "logits_dtype", args.logits_dtype)),
                     .experts_per_token = args.experts_per_token,
                     .rounding = rounding_of(name, args.weight_rounding),
                     .expert_ids = list(args.expert_ids, slots),
                     .weights = list(args.expert_weights, slots),
                     .first_expert = args.first_expert,
                     .experts = args.experts,
                     .lists = lists},
                    workspace, stream_of(stream));
}

void mxfp4_linear(const moxie_mxfp4_linear_args* given, void* stream) {
  const char* name = "moxie_mxfp4_linear_args";
  const moxie_mxfp4_linear_args args = MOXIE_READ(given, moxie_mxfp4_linear_args);
  check_choice(name, "reserved", args.reserved, 0);
  Mxfp4LinearArgs linear;
  linear.x = matrix(args.x, args.rows, args.k, args.x_stride);
  linear.weight = {args.codes, args.scales, 1, args.n, args.k};
  linear.layout = layout_of(name, args.layout);
  linear.bias = args.bias;
  linear.activation = activation_of(name, args.activation);
  linear.alpha = or_default(args.alpha, linear.alpha);
  linear.limit = or_default(args.limit, linear.limit);
  if (args.residual != nullptr)
    linear.residual = matrix(args.residual, args.rows, args.n, args.residual_stride);
  const bool halves = linear.activation == Mxfp4LinearArgs::Activation::kSwiglu;
  linear.out = matrix(args.out, args.rows, halves ? args.n / 2 : args.n, args.out_stride);
  hopper::run_mxfp4_linear(linear, workspace_of(args.workspace, args.workspace_bytes),
                           stream_of(stream));
}

}  // namespace
}  // namespace moxie::capi

using namespace moxie;        // NOLINT: this file is the C functions of these
using namespace moxie::capi;  // NOLINT

extern "C" {

uint32_t moxie_abi_version(void) { return MOXIE_ABI_MAJOR << 16 | MOXIE_ABI_MINOR; }

const char* moxie_last_error(void) { return last_error(); }

int32_t moxie_prepack(const moxie_prepack_args* args, void* stream) {
  return call([&] { prepack(args, Mxfp4Layout::kPrepacked, stream); });
}

int32_t moxie_unpack(const moxie_prepack_args* args, void* stream) {
  return call([&] { prepack(args, Mxfp4Layout::kCheckpoint, stream); });
}

int32_t moxie_moe_workspace_bytes(const moxie_moe_desc* given, uint64_t* bytes) {
  return call([&] {
    const moxie_moe_desc desc = MOXIE_READ(given, moxie_moe_desc);
    write_workspace_bytes(
        hopper::MoeShape{.rows = desc.rows,
                         .hidden = desc.hidden_size,
                         .inner = desc.intermediate_size,
                         .experts = desc.experts,
                         .experts_per_token = desc.experts_per_token,
                         .num_experts = desc.num_logits,
                         .activations = activations_of("moxie_moe_desc", desc.activations)},
        bytes);
  });
}

int32_t moxie_moe(const moxie_moe_args* args, void* stream) {
  return call([&] { moe(args, stream); });
}

int32_t moxie_moe_flat(uint32_t layout, int64_t rows, int64_t hidden_size,
                       int64_t intermediate_size, int64_t experts, int64_t first_expert,
                       int64_t experts_per_token, const void* x, int64_t x_stride,
                       const void* logits, int64_t num_logits, int64_t logits_stride,
                       uint32_t logits_dtype, uint32_t weight_rounding, const int32_t* expert_ids,
                       const float* expert_weights, const uint8_t* gate_up_codes,
                       const uint8_t* gate_up_scales, const float* gate_up_bias,
                       const uint8_t* down_codes, const uint8_t* down_scales,
                       const float* down_bias, float alpha, float limit, const void* residual,
                       int64_t residual_stride, void* out, int64_t out_stride, void* workspace,
                       uint64_t workspace_bytes, void* stream) {
  const moxie_moe_args args = {.struct_size = sizeof(moxie_moe_args),
                               .layout = layout,
                               .rows = rows,
                               .hidden_size = hidden_size,
                               .intermediate_size = intermediate_size,
                               .experts = experts,
                               .first_expert = first_expert,
                               .experts_per_token = experts_per_token,
                               .x = x,
                               .x_stride = x_stride,
                               .logits = logits,
                               .num_logits = num_logits,
                               .logits_stride = logits_stride,
                               .logits_dtype = logits_dtype,
                               .weight_rounding = weight_rounding,
                               .expert_ids = expert_ids,
                               .expert_weights = expert_weights,
                               .gate_up_codes = gate_up_codes,
                               .gate_up_scales = gate_up_scales,
                               .gate_up_bias = gate_up_bias,
                               .down_codes = down_codes,
                               .down_scales = down_scales,
                               .down_bias = down_bias,
                               .alpha = alpha,
                               .limit = limit,
                               .residual = residual,
                               .residual_stride = residual_stride,
                               .out = out,
                               .out_stride = out_stride,
                               .workspace = workspace,
                               .workspace_bytes = workspace_bytes,
                               .activations = MOXIE_ACTIVATIONS_BF16,
                               .reserved = 0,
                               .num_wide_tiles = nullptr};
  return moxie_moe(&args, stream);
}

int32_t moxie_grouped_gemm_workspace_bytes(const moxie_grouped_gemm_desc* given, uint64_t* bytes) {
  return call([&] {
    const moxie_grouped_gemm_desc desc = MOXIE_READ(given, moxie_grouped_gemm_desc);
    check_choice("moxie_grouped_gemm_desc", "reserved", desc.reserved, 0);
    write_workspace_bytes(hopper::GroupedGemmShape{desc.rows, desc.experts, desc.n, desc.k}, bytes);
  });
}

int32_t moxie_grouped_gemm(const moxie_grouped_gemm_args* args, void* stream) {
  return call([&] { grouped_gemm(args, stream); });
}

int32_t moxie_route_workspace_bytes(const moxie_route_desc* given, uint64_t* bytes) {
  return call([&] {
    const moxie_route_desc desc = MOXIE_READ(given, moxie_route_desc);
    check_choice("moxie_route_desc", "reserved", desc.reserved, 0);
    write_workspace_bytes(hopper::RouteShape{desc.rows, desc.experts, desc.experts_per_token},
                          bytes);
  });
}

int32_t moxie_route(const moxie_route_args* args, void* stream) {
  return call([&] { route(args, stream); });
}

int32_t moxie_mxfp4_linear_workspace_bytes(const moxie_mxfp4_linear_desc* given, uint64_t* bytes) {
  return call([&] {
    const moxie_mxfp4_linear_desc desc = MOXIE_READ(given, moxie_mxfp4_linear_desc);
    check_choice("moxie_mxfp4_linear_desc", "reserved", desc.reserved, 0);
    write_workspace_bytes(hopper::LinearShape{desc.rows, desc.n, desc.k}, bytes);
  });
}

int32_t moxie_mxfp4_linear(const moxie_mxfp4_linear_args* args, void* stream) {
  return call([&] { mxfp4_linear(args, stream); });
}

int32_t moxie_quantize_mxfp4(const moxie_quantize_mxfp4_args* given, void* stream) {
  return call([&] {
    const moxie_quantize_mxfp4_args args = MOXIE_READ(given, moxie_quantize_mxfp4_args);
    check_choice("moxie_quantize_mxfp4_args", "scale_rule", args.scale_rule, MOXIE_SCALE_EVEN);
    hopper::run_quantize_mxfp4({matrix(args.values, args.rows, args.k, 0), args.codes, args.scales,
                                static_cast<mxfp4::ScaleRule>(args.scale_rule)},
                               stream_of(stream));
  });
}

int32_t moxie_dequantize_mxfp4(const moxie_dequantize_mxfp4_args* given, void* stream) {
  return call([&] {
    const moxie_dequantize_mxfp4_args args = MOXIE_READ(given, moxie_dequantize_mxfp4_args);
    check_choice("moxie_dequantize_mxfp4_args", "reserved", args.reserved, 0);
    hopper::run_dequantize_mxfp4(
        {args.codes, args.scales, matrix(args.values, args.rows, args.k, 0)}, stream_of(stream));
  });
}

}  // extern "C"
