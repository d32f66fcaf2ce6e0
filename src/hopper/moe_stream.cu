// The experts block for 1 to 8 rows on Hopper, in one launch. Implements moe_stream.h.
//
// Work    every CTA routes for itself, then multiplies its strips: of the first product of expert
//         after expert, then of the second. A unit of work is a panel of a strip, 4896 bytes; the
//         units of a CTA go round its warps
// Warps   math warps, alike: each has slots of its own that it fills by bulk copies for its next
//         units, decodes E2M1 in registers and feeds mma.sync m16n8k16 with the weight as its 16
//         rows. The warp that finishes the last panel of a strip adds up the panels' sums in order.
//         Two more warps: one stores the CTA's values between the products and says so to all
//         CTAs, the other fetches an expert's when all have theirs stored. Fences are theirs alone:
//         a fence waits for the copies that its thread has under way
// Memory  the slots; rows of x and of values between the products; sums of panels; y of the outputs
//         owned
// Cost    3 * hidden * inner * 17/32 bytes for each expert that has rows
// Needs   sm_90a; all CTAs at once; hidden and inner multiples of 32
//
// Who waits for whom, and why nobody waits for ever
//   A math warp waits for its own copies only, and it asked for them itself, in the order in which
//   it waits: a slot's barrier is never more than one phase ahead. From its first unit of the
//   second product on it also waits for inner_full of the unit's place. All units of the first
//   product come before, and need nothing but weights, x and bias: so all CTAs get through those,
//   if all run at once (cooperative launch).
//   The storing warp waits, place after place, for up_ready: the CTA's strips of the first product.
//   The fetching warp waits, place after place, for `stored` (all strips of all CTAs, see above)
//   and, where rows in shared memory are taken in turns, for inner_empty of earlier places: their
//   units are behind no others than of places before them, whose inner_full has been completed.
//   All barriers but the slots' have one phase a launch. Counters in memory are zero between
//   launches: the last CTA whose fetching warp has seen all of `stored` makes them so.
#include <cuda_bf16.h>

#include <algorithm>

#include "hopper/device/ptx.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/moe_stream.h"
#include "hopper/moe_stream_lists.cuh"
#include "hopper/moe_stream_math.cuh"
#include "hopper/moe_stream_shared.cuh"
#include "hopper/workspace_parts.h"

namespace moxie::hopper {
namespace {

using namespace stream;  // what this kernel's warps are made of

// Asks for the bias of the CTA's strips, a value a thread. The two warps that do not multiply call.
__device__ __forceinline__ void request_bias(const Shared& shared) {
  const Kernel& kernel = shared.kernel;
  const MoeStreamPlan& plan = kernel.plan;
  const Lists& lists = shared.lists();
  const int cta = static_cast<int>(blockIdx.x), turns = plan.turns(cta), owned = plan.owned(cta);
  const int thread = static_cast<int>(threadIdx.x) - kernel.warps * 32;
  const int row = thread % kStripRows, step = kBiasThreads / kStripRows;
  const float *up = kernel.args.gate_up_bias, *down = kernel.args.down_bias;
  float* up_to = shared.at<float>(kernel.at.up_bias) + row;
  float* down_to = shared.at<float>(kernel.at.down_bias) + row;
#pragma unroll 1
  for (int place = 0, rest = cta; place < lists.places; ++place) {
    const int strips = turns + (rest < plan.rest ? 1 : 0);
#pragma unroll 1
    for (int i = thread / kStripRows; i < strips + owned; i += step) {
      const bool first = i < strips;
      const int strip = !first      ? plan.first_owned(cta) + i - strips
                        : i < turns ? plan.turn_strip(cta, i)
                                    : plan.first_rest() + rest;
      const int64_t at =
          (int64_t{lists.expert[place]} * (first ? plan.up_strips : plan.down_strips) + strip) *
              kStripRows +
          row;
      const float* bias = first ? up : down;
      float* to = first ? up_to + (place * kernel.at.up_strips + i) * kStripRows
                        : down_to + (place * owned + i - strips) * kStripRows;
      if (bias != nullptr) async_copy_4(shared_address(to), bias + at);
    }
    rest -= plan.rest;
    if (rest < 0) rest += plan.ctas;
  }
  async_copy_arrive(shared.bias_full());
}

// Stores the CTA's values between the products, place after place, and says so to all. One warp,
// not one of those that multiply: a fence waits for the copies that its thread has under way.
__device__ void store_inner(const Shared& shared, int lane) {
  const Kernel& kernel = shared.kernel;
  const MoeStreamPlan& plan = kernel.plan;
  const Lists& lists = shared.lists();
  const int cta = static_cast<int>(blockIdx.x), turns = plan.turns(cta);
  int rest = cta;
  for (int place = 0; place < lists.places; ++place) {
    const bool has_rest = rest < plan.rest;
    const int strips = turns + (has_rest ? 1 : 0);
    const int begin = lists.begin[place], count = lists.count[place];
    if (!has_rest && lane == 0) mbarrier_arrive(shared.up_ready() + place);
    mbarrier_wait(shared.up_ready() + place, 0);
    for (int i = lane; i < strips * count; i += 32) {
      const int in_place = i / count, column = i - in_place * count;
      const int strip =
          in_place < turns ? plan.turn_strip(cta, in_place) : plan.first_rest() + rest;
      *reinterpret_cast<uint4*>(
          kernel.inner + static_cast<int64_t>(begin + column) * kernel.args.sizes.inner +
          strip * (kStripRows / 2)) = *reinterpret_cast<const uint4*>(shared.staged(begin, i));
    }
    __syncwarp();  // all lanes have stored
    if (lane == 0 && strips > 0) add_release(kernel.stored + place, static_cast<uint32_t>(strips));
    rest -= plan.rest;
    if (rest < 0) rest += plan.ctas;
  }
}

// Fetches the values between the products, place after place, as soon as they are stored and there
// is room. One warp.
__device__ void fetch_inner(const Shared& shared, int lane) {
  const Kernel& kernel = shared.kernel;
  const Lists& lists = shared.lists();
  const uint32_t row_bytes = static_cast<uint32_t>(kernel.args.sizes.inner) * 2;
  // A CTA without outputs needs none of them.
  const int places = kernel.plan.owned(static_cast<int>(blockIdx.x)) == 0 ? 0 : lists.places;
  int freed = 0;  // places whose rows may be overwritten
  for (int place = 0; place < places; ++place) {
    const int begin = lists.begin[place], count = lists.count[place];
    while (freed < place && lists.begin[freed] < begin + count - kernel.inner_rows) {
      mbarrier_wait(shared.inner_empty() + freed, 0);
      ++freed;
    }
    if (lane == 0) {
      while (load_acquire(kernel.stored + place) < static_cast<uint32_t>(kernel.plan.up_strips)) {
      }
      mbarrier_expect(shared.inner_full() + place, static_cast<uint32_t>(count) * row_bytes);
    }
    __syncwarp();           // all strips are stored, and the bytes expected
    fence_for_bulk_copy();  // others' ordinary stores, before copies of this thread
    if (lane < count)
      bulk_copy(
          shared.base + kernel.at.inner + lists.inner_row[begin + lane] * kernel.at.inner_pitch,
          kernel.inner + static_cast<int64_t>(begin + lane) * kernel.args.sizes.inner, row_bytes,
          shared.inner_full() + place);
    if (lane == 0 && place == places - 1) MOXIE_MARK(5);
  }
  uint32_t before = 0;
  if (lane == 0) before = atomicAdd(kernel.ctas_done, 1u);
  before = __shfl_sync(kAll, before, 0);
  if (before == static_cast<uint32_t>(kernel.plan.ctas) - 1) {
    if (lane < lists.places) kernel.stored[lane] = 0;
    if (lane == 0) *kernel.ctas_done = 0;
  }
}

__device__ __forceinline__ float load_bf16(const bf16* address) {
  return __bfloat162float(*reinterpret_cast<const __nv_bfloat16*>(address));
}

__global__ void __launch_bounds__(kMaxThreads, 1)
    sm90_bf16_mxfp4_moe_stream(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(128) unsigned char memory[];
  const Shared shared{memory, kernel};
  const MoeGroupedArgs& args = kernel.args;
  const MoeSizes& sizes = args.sizes;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = __shfl_sync(kAll, thread / 32, 0), lane = thread % 32;
  const int rows = static_cast<int>(sizes.rows), cta = static_cast<int>(blockIdx.x);
  if (thread == 0) MOXIE_MARK(0);
  let_next_kernel_start();
  set_up(shared);
  wait_for_previous_kernel();
  if (thread == 0) MOXIE_MARK(1);

  // Small reads first: behind the weights they would wait long.
  const int owned_rows = kernel.plan.owned(cta) * kStripRows;
  const int out_row = thread / max(owned_rows, 1);
  const int out_column = kernel.plan.first_owned(cta) * kStripRows + thread - out_row * owned_rows;
  const bool has_output = thread < rows * owned_rows;
  float residual = 0;
  if (warp < rows) {
    route_row(shared, warp, lane);
  } else {
    const int pieces = sizes.hidden / 8;  // of 16 bytes, of a row
    for (int i = thread - rows * 32; i < rows * pieces;
         i += static_cast<int>(blockDim.x) - rows * 32) {
      const int row = i / pieces, piece = i - row * pieces;
      async_copy_16(shared_address(memory + kernel.at.x + row * kernel.at.x_pitch + piece * 16),
                    args.x + row * args.x_stride + piece * 8, true);
    }
  }
  if (has_output && args.residual != nullptr)
    residual = load_bf16(args.residual + out_row * args.residual_stride + out_column);
  if (rows > 1) __syncthreads();  // all rows are routed
  if (warp == 0) {
    __syncwarp();  // row 0 is routed
    make_lists(shared, lane);
  }
  __syncthreads();  // lists, units, barriers and counters are there
  if (thread == 0) MOXIE_MARK(2);
  if (warp == kernel.warps) {
    async_copy_wait_all();
    request_bias(shared);
    __syncthreads();
    fetch_inner(shared, lane);
  } else if (warp == kernel.warps + 1) {
    async_copy_wait_all();
    request_bias(shared);
    __syncthreads();
    store_inner(shared, lane);
  } else {
    MathWarp math(shared, warp, lane);
    math.begin();
    async_copy_wait_all();
    __syncthreads();  // x is there
    math.run();
  }
  if (thread == 0) MOXIE_MARK(6);
  __syncthreads();  // all y of the owned outputs are there
  if (has_output) {
    const int k = sizes.experts_per_token, column = thread - out_row * owned_rows;
    float sum = 0;
    for (int entry = out_row * k; entry < (out_row + 1) * k; ++entry)
      if (shared.lists().local[entry] >= 0)
        sum += load_bf16(shared.outputs() + entry * owned_rows + column);
    __nv_bfloat16 out = __float2bfloat16(sum);
    if (args.residual != nullptr) out = __float2bfloat16(residual + __bfloat162float(out));
    reinterpret_cast<__nv_bfloat16*>(args.out)[out_row * args.out_stride + out_column] = out;
  }
  if (thread == 0) MOXIE_MARK(7);
}

int owned_max(const MoeStreamPlan& plan) { return plan.owned(plan.ctas - 1); }

// The most units that a warp can have.
int warp_units(const Places& p, int entries, const MoeStreamConfig& c) {
  const int of_place = p.up_strips * c.plan.up_panels + owned_max(c.plan) * c.plan.down_panels;
  return (entries * of_place + c.warps - 1) / c.warps;
}

Places places(const MoeSizes& sizes, const MoeStreamConfig& c) {
  const MoeStreamPlan& plan = c.plan;
  const int rows = static_cast<int>(sizes.rows), entries = rows * sizes.experts_per_token;
  const auto aligned = [](int bytes) { return (bytes + 15) / 16 * 16; };
  Places p{};
  // 16 bytes more than a row: eight rows' pieces of 16 bytes lie in different banks.
  p.x_pitch = sizes.hidden * 2 + 16, p.inner_pitch = sizes.inner * 2 + 16;
  p.up_strips = plan.turns_all + plan.turns_some + (plan.rest > 0 ? 1 : 0);
  // A place's sums of the first product are used up before those of its second begin.
  p.place_sums = std::max(p.up_strips * plan.up_panels, owned_max(plan) * plan.down_panels);
  p.x = c.warps * c.slots * kSlotBytes;
  p.inner = p.x + rows * p.x_pitch;
  p.sums = p.inner + c.inner_rows * p.inner_pitch;
  p.outputs = p.sums + entries * p.place_sums * kStripRows * 4;
  p.up_bias = p.outputs + entries * owned_max(plan) * kStripRows * 2;
  p.down_bias = p.up_bias + entries * p.up_strips * kStripRows * 4;
  p.staged = p.down_bias + entries * owned_max(plan) * kStripRows * 4;
  p.units = p.staged + entries * p.up_strips * kStripRows;
  p.lists = p.units + c.warps * warp_units(p, entries, c) * int{sizeof(Unit)};
  p.barriers = p.lists + aligned(int{sizeof(Lists)});
  p.up_done = p.barriers + (c.warps * c.slots + 3 * kMaxPlaces + 1) * 8;
  p.down_done = p.up_done + entries * p.up_strips * 8;
  p.end = p.down_done + entries * owned_max(plan) * 8;
  return p;
}

class Parts : public WorkspaceParts {
 public:
  Parts(const MoeSizes& sizes, void* memory) : WorkspaceParts(memory) {
    stored = take<uint32_t>(kMaxPlaces);
    ctas_done = take<uint32_t>(1);
    state_bytes = bytes();
    inner = take<bf16>(sizes.rows * sizes.experts_per_token * sizes.inner);
  }
  uint32_t *stored, *ctas_done;
  bf16* inner;
  int64_t state_bytes;
};

}  // namespace

MoeStreamPlan make_moe_stream_plan(const MoeSizes& sizes, int ctas) {
  MoeStreamPlan plan;
  plan.ctas = ctas;
  plan.up_strips = 2 * sizes.inner / kStripRows;
  plan.down_strips = sizes.hidden / kStripRows;
  plan.up_panels = (sizes.hidden + kPanelDepth - 1) / kPanelDepth;
  plan.down_panels = (sizes.inner + kPanelDepth - 1) / kPanelDepth;
  plan.owned_min = plan.down_strips / ctas;
  plan.first_with_more = ctas - plan.down_strips % ctas;
  const double mean =
      static_cast<double>(plan.up_strips * plan.up_panels + plan.down_strips * plan.down_panels) /
      ctas;
  const auto turns = [&](int owned) {
    return std::max(0, static_cast<int>((mean - owned * plan.down_panels) / plan.up_panels));
  };
  const auto round = [&] { return plan.turns_all * ctas + plan.turns_some * plan.first_with_more; };
  plan.turns_all = turns(plan.owned_min + 1);
  plan.turns_some = turns(plan.owned_min) - plan.turns_all;
  while (round() > plan.up_strips) --(plan.turns_some > 0 ? plan.turns_some : plan.turns_all);
  while (plan.up_strips - round() >= ctas) ++plan.turns_all;
  plan.rest = plan.up_strips - round();
  return plan;
}

MoeStreamConfig select_moe_stream_config(const MoeSizes& sizes, int num_sms,
                                         const MoeStreamOptions& options) {
  MoeStreamConfig c;
  if (sizes.rows < 1 || sizes.rows > kMoeStreamMaxRows ||
      sizes.rows * sizes.experts_per_token > kMaxEntries || sizes.all_experts > kMaxStreamExperts ||
      !supports_moe_grouped(sizes))
    return c;
  c.plan = make_moe_stream_plan(sizes, num_sms);
  c.warps = c.slots = 1;
  const bool fits = places(sizes, c).place_sums < 256 &&  // divisions are exact then, bytes suffice
                    int64_t{sizes.num_experts} * sizes.inner * sizes.hidden / 256 < 1 << 30;
  c.warps = c.slots = 0;
  if (!fits) return c;
  const int entries = static_cast<int>(sizes.rows) * sizes.experts_per_token;
  c.inner_rows =
      std::min(entries, std::max(options.inner_rows > 0 ? options.inner_rows : 8, kPlaceEntries));
  const int most_warps = options.warps > 0 ? options.warps : 16;
  // A thread an output.
  const int least_warps = (static_cast<int>(sizes.rows) * owned_max(c.plan) * kStripRows + 31) / 32;
  const int fewest = std::max(least_warps, options.warps > 0 ? options.warps : 8);
  for (c.warps = most_warps; c.warps >= fewest; --c.warps)
    for (c.slots = options.slots > 0 ? options.slots : 2; c.slots >= std::max(1, options.slots);
         --c.slots) {
      c.shared_bytes = places(sizes, c).end;
      if (c.shared_bytes <= kSharedLimit) return c;
    }
  c.warps = c.slots = c.shared_bytes = 0;
  return c;
}

bool supports_moe_stream(const MoeSizes& sizes, int num_sms) {
  return select_moe_stream_config(sizes, num_sms).slots > 0;
}

std::string to_string(const MoeStreamConfig& c) {
  return "moe_stream: " + std::to_string(c.warps) + " warps x " + std::to_string(c.slots) +
         " slots, " + std::to_string(c.inner_rows) + " inner rows, " + std::to_string(c.plan.ctas) +
         " CTAs, " + std::to_string(c.shared_bytes) + " bytes of shared memory";
}

int64_t moe_stream_state_bytes() { return Parts(MoeSizes{}, nullptr).state_bytes; }
int64_t moe_stream_workspace_bytes(const MoeSizes& sizes) { return Parts(sizes, nullptr).bytes(); }

cudaError_t prepare_moe_stream() {
  return cudaFuncSetAttribute(sm90_bf16_mxfp4_moe_stream,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit);
}

cudaError_t launch_moe_stream(const MoeGroupedArgs& args, const MoeStreamConfig& config,
                              void* workspace, cudaStream_t stream) {
  const Parts parts(args.sizes, workspace);
  Kernel kernel;
  kernel.args = args;
  kernel.plan = config.plan;
  kernel.at = places(args.sizes, config);
  kernel.warps = config.warps, kernel.slots = config.slots, kernel.inner_rows = config.inner_rows;
  kernel.warp_units = warp_units(
      kernel.at, static_cast<int>(args.sizes.rows) * args.sizes.experts_per_token, config);
  kernel.one_over_up_panels = 65536u / static_cast<uint32_t>(config.plan.up_panels) + 1;
  kernel.one_over_down_panels = 65536u / static_cast<uint32_t>(config.plan.down_panels) + 1;
  kernel.stored = parts.stored, kernel.ctas_done = parts.ctas_done, kernel.inner = parts.inner;
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeCooperative;
  attributes[1].val.cooperative = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.plan.ctas));
  launch.blockDim = dim3(static_cast<unsigned>(config.warps + 2) * 32);
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = attributes;
  launch.numAttrs = 2;
  return cudaLaunchKernelEx(&launch, sm90_bf16_mxfp4_moe_stream, kernel);
}

}  // namespace moxie::hopper
