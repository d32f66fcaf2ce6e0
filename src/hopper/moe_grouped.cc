#include "hopper/moe_grouped.h"

#include <algorithm>

#include "hopper/quantize_rows.h"
#include "hopper/route.h"
#include "hopper/workspace_parts.h"

namespace moxie::hopper {
namespace {

constexpr int64_t kPieceBytes = 480'000'000;  // of hidden values and outputs of the experts

// The parts of the workspace, each 256-byte aligned.
class Parts : public WorkspaceParts {
 public:
  Parts(const MoeSizes& sizes, const GroupedGemmConfig& config, void* memory)
      : WorkspaceParts(memory) {
    const int64_t rows = moe_grouped_piece_rows(sizes), entries = rows * sizes.experts_per_token;
    const int64_t tiles = max_row_tiles(entries, sizes.num_experts, config.tile_rows);
    expert_ids = take<int32_t>(entries);
    weights = take<float>(entries);
    // The last piece may have fewer rows, in more chunks.
    histograms =
        take<int32_t>(int64_t{max_route_chunks(static_cast<int>(rows))} * sizes.num_experts);
    sources = take<int32_t>(entries);
    row_tiles = take<RowTile>(tiles);
    finished = take<uint32_t>(tiles);
    num_row_tiles = take<int32_t>(1);
    tickets = take<uint32_t>(1);
    if (is_fp8(config.shape)) {
      x_e4m3 = take<uint8_t>(rows * sizes.hidden);
      x_factors = take<float>(rows);
      inner = take<uint8_t>(entries * sizes.inner);
    } else {
      inner = take<bf16>(entries * sizes.inner);
    }
    outputs = take<bf16>(entries * sizes.hidden);
  }

  int32_t *expert_ids, *histograms, *sources, *num_row_tiles;
  float* weights;
  RowTile* row_tiles;
  uint32_t *finished, *tickets;
  uint8_t* x_e4m3 = nullptr;
  float* x_factors = nullptr;
  void* inner;
  bf16* outputs;
};

}  // namespace

int64_t moe_grouped_piece_rows(const MoeSizes& sizes) {
  const int64_t row_bytes =
      int64_t{sizes.experts_per_token} * (sizes.inner + sizes.hidden) * int64_t{sizeof(bf16)};
  const int64_t most = std::max<int64_t>(1, kPieceBytes / row_bytes);
  const int64_t pieces = std::max<int64_t>(1, (sizes.rows + most - 1) / most);
  return (sizes.rows + pieces - 1) / pieces;
}

bool supports_moe_grouped(const MoeSizes& s) {
  return s.rows >= 1 && s.all_experts >= 1 && s.all_experts <= kMaxExperts && s.num_experts >= 1 &&
         s.num_experts <= kMaxExperts && s.first_expert >= 0 && s.experts_per_token >= 1 &&
         s.experts_per_token <= std::min<int64_t>(kMaxExpertsPerToken, s.all_experts) &&
         supports_grouped_gemm(2 * s.inner, s.hidden) && supports_grouped_gemm(s.hidden, s.inner);
}

GroupedGemmConfig select_moe_grouped_config(const MoeSizes& sizes, int num_sms,
                                            Activations activations) {
  const double entries =
      static_cast<double>(moe_grouped_piece_rows(sizes) * sizes.experts_per_token);
  const double experts = std::min<double>(sizes.all_experts, entries);
  return select_grouped_gemm_config(entries / experts, experts, sizes.hidden, sizes.inner, num_sms,
                                    activations);
}

int64_t moe_grouped_workspace_bytes(const MoeSizes& sizes, const GroupedGemmConfig& config) {
  return Parts(sizes, config, nullptr).bytes();
}

cudaError_t launch_moe_grouped(const MoeGroupedArgs& args, const GroupedGemmConfig& config,
                               void* workspace, cudaStream_t stream) {
  const MoeSizes& sizes = args.sizes;
  const Parts at(sizes, config, workspace);
  const int64_t piece_rows = moe_grouped_piece_rows(sizes);
  for (int64_t first = 0; first < sizes.rows; first += piece_rows) {
    const int rows = static_cast<int>(std::min(piece_rows, sizes.rows - first));
    const int64_t first_entry = first * sizes.experts_per_token;
    RouteListArgs route;
    route.rows = rows;
    route.all_experts = sizes.all_experts, route.num_experts = sizes.num_experts;
    route.first_expert = sizes.first_expert, route.experts_per_token = sizes.experts_per_token;
    route.tile_rows = config.tile_rows, route.row_step = config.row_step;
    route.expert_ids = at.expert_ids, route.weights = at.weights;
    if (args.logits != nullptr) {
      const int64_t bytes = first * args.logits_stride * (args.logits_bf16 ? 2 : 4);
      route.logits = static_cast<const unsigned char*>(args.logits) + bytes;
      route.logits_bf16 = args.logits_bf16, route.logits_stride = args.logits_stride;
    } else {
      // Only read: launch_route writes them where it has logits.
      route.expert_ids = const_cast<int32_t*>(args.expert_ids + first_entry);
      route.weights = const_cast<float*>(args.weights + first_entry);
    }
    route.sources = at.sources, route.row_tiles = at.row_tiles;
    route.num_row_tiles = at.num_row_tiles, route.finished = at.finished;
    route.tickets = at.tickets, route.histograms = at.histograms;
    if (const cudaError_t error = launch_route(route, stream); error != cudaSuccess) return error;

    const bool fp8 = is_fp8(config.shape);
    if (fp8) {
      const QuantizeRowsArgs quantize{args.x + first * args.x_stride,
                                      args.x_stride,
                                      at.x_e4m3,
                                      at.x_factors,
                                      rows,
                                      sizes.hidden};
      if (const cudaError_t error = launch_quantize_rows(quantize, stream); error != cudaSuccess)
        return error;
    }
    GroupedGemmArgs products;
    products.products = 2;
    products.row_tiles = at.row_tiles, products.num_row_tiles = at.num_row_tiles;
    products.sources = at.sources, products.sources_per_row = sizes.experts_per_token;
    products.alpha = args.alpha, products.limit = args.limit;
    products.tickets = at.tickets, products.finished = at.finished;
    products.num_wide_tiles = args.num_wide_tiles;
    GroupedProduct& up = products.product[0];
    up.x = args.x + first * args.x_stride, up.x_stride = args.x_stride, up.gather = true;
    up.codes = args.gate_up_codes, up.scales = args.gate_up_scales, up.bias = args.gate_up_bias;
    up.n = 2 * sizes.inner, up.k = sizes.hidden, up.swiglu = true;
    up.out = at.inner, up.out_stride = sizes.inner;
    if (fp8) {
      up.x = at.x_e4m3, up.x_stride = sizes.hidden, up.x_factors = at.x_factors;
      up.out_factor = e4m3_factor(args.alpha, args.limit);
    }
    GroupedProduct& down = products.product[1];
    down.x = at.inner, down.x_stride = sizes.inner;
    down.codes = args.down_codes, down.scales = args.down_scales, down.bias = args.down_bias;
    down.n = sizes.hidden, down.k = sizes.inner, down.row_weights = route.weights;
    if (fp8) down.x_factor = 1 / up.out_factor;
    down.out = at.outputs, down.out_stride = sizes.hidden, down.scatter = true;
    if (const cudaError_t error = launch_grouped_gemm(products, config, stream);
        error != cudaSuccess)
      return error;

    CombineArgs combine;
    combine.y = at.outputs, combine.expert_ids = route.expert_ids;
    combine.rows = rows, combine.n = sizes.hidden;
    combine.experts_per_token = sizes.experts_per_token;
    combine.first_expert = sizes.first_expert, combine.num_experts = sizes.num_experts;
    combine.out = args.out + first * args.out_stride, combine.out_stride = args.out_stride;
    if (args.residual != nullptr) combine.residual = args.residual + first * args.residual_stride;
    combine.residual_stride = args.residual_stride;
    if (const cudaError_t error = launch_combine(combine, stream); error != cudaSuccess)
      return error;
  }
  return cudaSuccess;
}

}  // namespace moxie::hopper
