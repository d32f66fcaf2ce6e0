// grouped_gemm of ops.h on the GPU: row tiles are made from row_offsets on the device, and rows are
// copied where the kernel cannot follow two lists at once.
#include <algorithm>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/grouped_gemm.h"
#include "hopper/launch.h"
#include "hopper/on_device.h"
#include "hopper/row_lists.h"
#include "hopper/workspace_parts.h"

namespace moxie::hopper {
namespace {

constexpr int64_t kPieceBytes = 256'000'000;  // of rows copied

// Entries beyond these go in pieces one after another, so that the workspace stays small.
int64_t piece_rows(const GroupedGemmShape& shape) {
  const int64_t row_bytes = std::max<int64_t>(1, (shape.n + shape.k) * int64_t{sizeof(bf16)});
  return std::min(shape.rows, std::max<int64_t>(192, kPieceBytes / row_bytes));
}

// The parts of the workspace, each 256-byte aligned. Sizes do not depend on which lists there are,
// so that one workspace serves all calls of a shape.
class Parts : public WorkspaceParts {
 public:
  Parts(const GroupedGemmShape& shape, void* memory) : WorkspaceParts(memory) {
    const int64_t rows = piece_rows(shape);
    row_tiles = take<RowTile>(rows);
    num_row_tiles = take<int32_t>(1);
    tickets = take<uint32_t>(1);
    x = take<bf16>(rows * shape.k);
    out = take<bf16>(rows * shape.n);
  }

  RowTile* row_tiles;
  int32_t* num_row_tiles;
  uint32_t* tickets;
  bf16 *x, *out;
};

template <class T>
const T* from_entry(std::span<const T> list, int64_t first) {
  return list.empty() ? nullptr : list.data() + first;
}

void launch_piece(const ::moxie::GroupedGemmArgs& args, const Parts& at, int64_t first,
                  int64_t rows, const Device& device, StreamHandle stream) {
  const bool swiglu = args.activation == ::moxie::GroupedGemmArgs::Activation::kSwiglu;
  const int n = static_cast<int>(args.weight.n), k = static_cast<int>(args.weight.k);
  const int out_cols = swiglu ? n / 2 : n;
  EntryLists entries;
  entries.row_offsets = args.row_offsets.data();
  entries.experts = static_cast<int>(args.weight.experts);
  entries.first = static_cast<int>(first), entries.rows = static_cast<int>(rows);
  entries.gather = from_entry(args.gather, first), entries.x_rows = args.x.rows;
  entries.scatter = from_entry(args.scatter, first), entries.out_rows = args.out.rows;
  const auto experts = static_cast<double>(std::min(args.weight.experts, rows));
  const GroupedGemmConfig config = select_grouped_gemm_config(static_cast<double>(rows) / experts,
                                                              experts, k, 0, device.num_sms);
  MOXIE_CUDA_CHECK(launch_row_tiles(
      {entries, config.tile_rows, config.row_step, at.row_tiles, at.num_row_tiles, at.tickets},
      stream));

  // The kernel follows one list, to rows of x or to rows of out, and finds the weight of an entry
  // by the same number; with another list beside it rows are copied.
  const auto* weights = from_entry(args.row_weights, first);
  const bool copies_out = entries.scatter != nullptr && weights != nullptr;
  const bool copies_x =
      entries.gather != nullptr && (entries.scatter != nullptr || weights != nullptr);
  const auto* x = static_cast<const bf16*>(args.x.data);
  auto* out = static_cast<bf16*>(args.out.data);
  GroupedGemmArgs gemm;
  gemm.row_tiles = at.row_tiles, gemm.num_row_tiles = at.num_row_tiles;
  gemm.tickets = at.tickets, gemm.alpha = args.alpha, gemm.limit = args.limit;
  GroupedProduct& product = gemm.product[0];
  product.codes = args.weight.codes, product.scales = args.weight.scales, product.bias = args.bias;
  product.n = n, product.k = k, product.swiglu = swiglu, product.row_weights = weights;
  product.x = x, product.x_stride = args.x.stride;
  product.out = out, product.out_stride = args.out.stride;
  if (copies_x) {
    CopyRowsArgs copy{entries, RowCopy::kGather, x, at.x, args.x.stride, k, k};
    MOXIE_CUDA_CHECK(launch_copy_rows(copy, stream));
    product.x = at.x, product.x_stride = k;
  } else if (entries.gather != nullptr) {
    gemm.sources = entries.gather, product.gather = true;
  } else {
    product.x = x + first * args.x.stride;
  }
  if (copies_out) {
    product.out = at.out, product.out_stride = out_cols;
  } else if (entries.scatter != nullptr) {
    gemm.sources = entries.scatter, product.scatter = true;
  } else {
    product.out = out + first * args.out.stride;
  }
  MOXIE_CUDA_CHECK(launch_grouped_gemm(gemm, config, stream));
  if (copies_out) {
    CopyRowsArgs copy{entries, RowCopy::kScatter, at.out, out, out_cols, args.out.stride, out_cols};
    MOXIE_CUDA_CHECK(launch_copy_rows(copy, stream));
  }
}

}  // namespace

int64_t launch_workspace_bytes(const GroupedGemmShape& shape) {
  return shape.rows == 0 ? 0 : Parts(shape, nullptr).bytes();
}

void launch(const ::moxie::GroupedGemmArgs& args, const Workspace& workspace, StreamHandle stream) {
  const char* op = "grouped_gemm";
  const Device device = require_device(op);
  const GroupedGemmShape shape = shape_of(args);
  if (shape.rows == 0 || shape.experts == 0 || shape.n == 0) return;
  MOXIE_CHECK(supports_grouped_gemm(static_cast<int>(shape.n), static_cast<int>(shape.k)),
              kUnsupported, op, " on the GPU has no kernel for a weight of ", shape.n, " x ",
              shape.k);
  Pointers(op, device)
      .check("x", args.x.data)
      .check("codes", args.weight.codes)
      .check("scales", args.weight.scales)
      .check("bias", args.bias)
      .check("row_offsets", args.row_offsets.data())
      .check("gather", args.gather.data())
      .check("scatter", args.scatter.data())
      .check("row_weights", args.row_weights.data())
      .check("out", args.out.data)
      .check("workspace", workspace.data);
  const Parts at(shape, workspace.data);
  const int64_t at_once = piece_rows(shape);
  for (int64_t first = 0; first < shape.rows; first += at_once)
    launch_piece(args, at, first, std::min(at_once, shape.rows - first), device, stream);
}

}  // namespace moxie::hopper
