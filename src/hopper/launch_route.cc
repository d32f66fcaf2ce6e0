// route of ops.h on the GPU: the choice of experts, the lists, or both.
#include <algorithm>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/launch.h"
#include "hopper/on_device.h"
#include "hopper/route.h"
#include "hopper/row_lists.h"
#include "hopper/workspace_parts.h"

namespace moxie::hopper {
namespace {

constexpr int kTileRows = 64;  // of row tiles that nobody reads here

// The parts of the workspace, each 256-byte aligned.
class Parts : public WorkspaceParts {
 public:
  Parts(const RouteShape& shape, void* memory) : WorkspaceParts(memory) {
    const int64_t slots = shape.rows * shape.experts_per_token;
    const int64_t tiles = max_row_tiles(slots, static_cast<int>(shape.experts), kTileRows);
    // Enough for fewer rows too, which are taken in smaller chunks, and so may have more of them.
    const int rows = static_cast<int>(shape.rows);
    const int chunks = max_route_chunks(rows);
    histograms = take<int32_t>(chunks * shape.experts);
    slots_by_expert = take<int32_t>(slots);
    row_tiles = take<RowTile>(tiles);
    finished = take<uint32_t>(tiles);
    num_row_tiles = take<int32_t>(1);
    tickets = take<uint32_t>(1);
  }

  int32_t *histograms, *slots_by_expert, *num_row_tiles;
  RowTile* row_tiles;
  uint32_t *finished, *tickets;
};

// What launch_route does with lists of ops/row_lists.h, and what it does not.
void launch_lists(RouteListArgs route, const RowListsArgs& args, const Workspace& workspace,
                  StreamHandle stream) {
  const RowLists& lists = args.lists;
  if (!lists.row_offsets.empty() && (args.rows == 0 || args.experts == 0))
    MOXIE_CUDA_CHECK(
        cudaMemsetAsync(lists.row_offsets.data(), 0, lists.row_offsets.size_bytes(), stream));
  if (args.rows == 0) return;
  const Parts at(shape_of(args), workspace.data);
  route.rows = static_cast<int>(args.rows);
  route.experts_per_token = static_cast<int>(args.experts_per_token);
  route.first_expert = static_cast<int>(args.first_expert);
  route.num_experts = static_cast<int>(args.experts);
  route.tile_rows = kTileRows;
  route.sources = lists.slots.empty() ? at.slots_by_expert : lists.slots.data();
  route.row_tiles = at.row_tiles, route.num_row_tiles = at.num_row_tiles;
  route.finished = at.finished, route.tickets = at.tickets, route.histograms = at.histograms;
  route.row_offsets = lists.row_offsets.empty() ? nullptr : lists.row_offsets.data();
  route.positions = lists.positions.empty() ? nullptr : lists.positions.data();
  MOXIE_CUDA_CHECK(launch_route(route, stream));
  SlotListsArgs more;
  more.row_offsets = route.row_offsets, more.slots = route.sources;
  more.experts = route.num_experts, more.experts_per_token = route.experts_per_token;
  more.num_slots = static_cast<int>(args.rows * args.experts_per_token);
  more.weights = route.weights;
  more.rows = lists.rows.empty() ? nullptr : lists.rows.data();
  more.sorted_weights = lists.weights.empty() ? nullptr : lists.weights.data();
  MOXIE_CUDA_CHECK(launch_slot_lists(more, stream));
}

Pointers check_lists(const char* op, const Device& device, const RowLists& lists,
                     const Workspace& workspace) {
  return Pointers(op, device)
      .check("row_offsets", lists.row_offsets.data())
      .check("rows", lists.rows.data())
      .check("slots", lists.slots.data())
      .check("positions", lists.positions.data())
      .check("sorted weights", lists.weights.data())
      .check("workspace", workspace.data);
}

}  // namespace

int64_t launch_workspace_bytes(const RouteShape& shape) {
  return shape.rows == 0 ? 0 : Parts(shape, nullptr).bytes();
}

void launch(const RouteArgs& args, const Workspace& workspace, StreamHandle stream) {
  const char* op = "route";
  const Device device = require_device(op);
  MOXIE_CHECK(args.logits.dtype == DType::kF32 || args.rounding == WeightRounding::kToLogits,
              kUnsupported, op,
              " on the GPU rounds weights to bf16 logits; give float32 logits "
              "for weights without rounding");
  check_lists(op, device, args.lists, workspace)
      .check("logits", args.logits.data)
      .check("expert_ids", args.expert_ids.data())
      .check("weights", args.weights.data());
  RouteListArgs route;
  route.logits = args.logits.data;
  route.logits_bf16 = args.logits.dtype == DType::kBF16;
  route.logits_stride = args.logits.stride;
  route.all_experts = static_cast<int>(args.logits.cols);
  route.expert_ids = args.expert_ids.data();
  route.weights = args.weights.data();
  launch_lists(route, row_lists_of(args), workspace, stream);
}

void launch(const RowListsArgs& args, const Workspace& workspace, StreamHandle stream) {
  const char* op = "route";
  const Device device = require_device(op);
  check_lists(op, device, args.lists, workspace)
      .check("expert_ids", args.expert_ids.data())
      .check("weights", args.expert_weights.data());
  RouteListArgs route;
  route.all_experts = static_cast<int>(kMaxExperts);
  // Only read: launch_route writes them where it has logits.
  route.expert_ids = const_cast<int32_t*>(args.expert_ids.data());
  route.weights = const_cast<float*>(args.expert_weights.data());
  launch_lists(route, args, workspace, stream);
}

}  // namespace moxie::hopper
