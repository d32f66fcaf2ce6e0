// moe on the GPU: which kernels for which number of rows, and the workspace that serves them all.
#include <algorithm>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/launch.h"
#include "hopper/moe_grouped.h"
#include "hopper/moe_stream.h"
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

// Up to here one launch is faster than several (docs/measured.md).
constexpr int64_t kStreamRows = 4;

}  // namespace

int64_t launch_workspace_bytes(const MoeShape& shape) {
  MoeSizes sizes = sizes_of(shape, 0);
  if (sizes.rows == 0 || !supports_moe_grouped(sizes)) return 0;
  // Enough for fewer rows too: lists grow with the rows of a piece, and with smaller tiles.
  sizes.rows = std::min(sizes.rows, largest_piece(sizes));
  GroupedGemmConfig smallest_tiles;
  smallest_tiles.tile_rows = 8;
  if (shape.activations == Activations::kFp8) smallest_tiles.shape = GroupedGemmTiles::kFp8OneTile;
  const int64_t grouped =
      moe_stream_state_bytes() + moe_grouped_workspace_bytes(sizes, smallest_tiles);
  sizes.rows = std::min(sizes.rows, kStreamRows);
  return std::max(grouped, moe_stream_workspace_bytes(sizes));
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
      .check("num_wide_tiles", args.num_wide_tiles)
      .check("workspace", workspace.data);
  MoeGroupedArgs moe;
  moe.sizes = sizes;
  moe.x = static_cast<const bf16*>(args.x.data);
  moe.x_stride = args.x.stride;
  moe.logits = args.logits.data;
  moe.logits_stride = args.logits.stride;
  moe.logits_bf16 = args.logits.dtype == DType::kBF16;
  moe.expert_ids = args.expert_ids.data();
  moe.weights = args.weights.data();
  moe.gate_up_codes = args.gate_up.codes;
  moe.gate_up_scales = args.gate_up.scales;
  moe.gate_up_bias = args.gate_up_bias;
  moe.down_codes = args.down.codes;
  moe.down_scales = args.down.scales;
  moe.down_bias = args.down_bias;
  moe.alpha = args.alpha;
  moe.limit = args.limit;
  moe.residual = static_cast<const bf16*>(args.residual.data);
  moe.residual_stride = args.residual.stride;
  moe.out = static_cast<bf16*>(args.out.data);
  moe.out_stride = args.out.stride;
  moe.num_wide_tiles = args.num_wide_tiles;
  const bool bf16_rows = args.activations == Activations::kBf16;
  if (bf16_rows && sizes.rows <= kStreamRows && supports_moe_stream(sizes, device.num_sms) &&
      supports_moe_stream_swiglu(moe.alpha, moe.limit)) {
    MOXIE_CUDA_CHECK(launch_moe_stream(moe, select_moe_stream_config(sizes, device.num_sms),
                                       workspace.data, stream));
    return;
  }
  // What moe_stream keeps between its launches has a place of its own; all else the two share.
  unsigned char* rest = static_cast<unsigned char*>(workspace.data) + moe_stream_state_bytes();
  MOXIE_CUDA_CHECK(launch_moe_grouped(
      moe, select_moe_grouped_config(sizes, device.num_sms, args.activations), rest, stream));
}

}  // namespace moxie::hopper
