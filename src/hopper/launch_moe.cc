// moe on the GPU: which kernels for which number of rows, and the workspace that serves them all.
#include <algorithm>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/launch.h"
#include "hopper/moe_grouped.h"
#include "hopper/on_device.h"

namespace moxie::hopper {
namespace {

// Without logits the number of experts elsewhere is not known; it only guides the choice of tiles.
MoeSizes sizes_of(const MoeShape& shape, int64_t first_expert) {
  MoeSizes sizes;
  sizes.rows = shape.rows;
  sizes.hidden = static_cast<int>(shape.hidden);
  sizes.inner = static_cast<int>(shape.inner);
  sizes.all_experts = static_cast<int>(
      shape.num_experts > 0 ? shape.num_experts : std::max(shape.experts, shape.experts_per_token));
  sizes.num_experts = static_cast<int>(shape.experts);
  sizes.first_expert = static_cast<int>(first_expert);
  sizes.experts_per_token = static_cast<int>(shape.experts_per_token);
  return sizes;
}

// A call of so many rows is taken in one piece, and no piece is larger.
int64_t largest_piece(MoeSizes sizes) {
  sizes.rows = int64_t{1} << 40;
  return moe_grouped_piece_rows(sizes);
}

}  // namespace

int64_t launch_workspace_bytes(const MoeShape& shape) {
  MoeSizes sizes = sizes_of(shape, 0);
  if (sizes.rows == 0 || !supports_moe_grouped(sizes)) return 0;
  // Enough for fewer rows too: lists grow with the rows of a piece, and with smaller tiles.
  sizes.rows = std::min(sizes.rows, largest_piece(sizes));
  GroupedGemmConfig smallest_tiles;
  smallest_tiles.tile_rows = 8;
  return moe_grouped_workspace_bytes(sizes, smallest_tiles);
}

void launch(const MoeArgs& args, const Workspace& workspace, StreamHandle stream) {
  const char* op = "moe";
  const Device device = require_device(op);
  const MoeSizes sizes = sizes_of(shape_of(args), args.first_expert);
  if (sizes.rows == 0 || sizes.hidden == 0) return;
  MOXIE_CHECK(supports_moe_grouped(sizes), kUnsupported, op, " on the GPU has no kernel for ",
              sizes.num_experts, " experts of ", 2 * sizes.inner, " x ", sizes.hidden);
  MOXIE_CHECK(!args.logits || args.logits.dtype == DType::kF32 ||
                  args.rounding == WeightRounding::kToLogits,
              kUnsupported, op,
              " on the GPU rounds weights to bf16 logits; give float32 logits "
              "for weights without rounding");
  Pointers(op, device)
      .check("x", args.x.data)
      .check("logits", args.logits.data)
      .check("expert_ids", args.expert_ids.data())
      .check("weights", args.weights.data())
      .check("codes of gate_up", args.gate_up.codes)
      .check("scales of gate_up", args.gate_up.scales)
      .check("gate_up_bias", args.gate_up_bias)
      .check("codes of down", args.down.codes)
      .check("scales of down", args.down.scales)
      .check("down_bias", args.down_bias)
      .check("residual", args.residual.data)
      .check("out", args.out.data)
      .check("workspace", workspace.data);
  MoeGroupedArgs grouped;
  grouped.sizes = sizes;
  grouped.x = static_cast<const bf16*>(args.x.data);
  grouped.x_stride = args.x.stride;
  grouped.logits = args.logits.data;
  grouped.logits_stride = args.logits.stride;
  grouped.logits_bf16 = args.logits.dtype == DType::kBF16;
  grouped.expert_ids = args.expert_ids.data();
  grouped.weights = args.weights.data();
  grouped.gate_up_codes = args.gate_up.codes;
  grouped.gate_up_scales = args.gate_up.scales;
  grouped.gate_up_bias = args.gate_up_bias;
  grouped.down_codes = args.down.codes;
  grouped.down_scales = args.down.scales;
  grouped.down_bias = args.down_bias;
  grouped.alpha = args.alpha;
  grouped.limit = args.limit;
  grouped.residual = static_cast<const bf16*>(args.residual.data);
  grouped.residual_stride = args.residual.stride;
  grouped.out = static_cast<bf16*>(args.out.data);
  grouped.out_stride = args.out.stride;
  MOXIE_CUDA_CHECK(launch_moe_grouped(grouped, select_moe_grouped_config(sizes, device.num_sms),
                                      workspace.data, stream));
}

}  // namespace moxie::hopper
