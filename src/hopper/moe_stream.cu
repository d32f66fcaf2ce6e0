// The experts block for 1 to 8 rows on Hopper, in one launch. Implements moe_stream.h.
//
// Work    every CTA routes for itself, then multiplies its strips: of the first product of expert
//         after expert, then of the second. A unit of work is a panel of a strip, 4896 bytes; the
//         units of a CTA go round its warps
// Warps   math warps, alike: each has slots of its own, spreads E2M1 in registers and feeds
//         mma.sync m16n8k16 with the weight as its 16 rows. Three warps more: one asks for weights
//         by bulk copies, one adds up panels of the first product, stores values between the
//         products and says so to all CTAs, one fetches an expert's when all have theirs stored.
//         Fences are not for warps that copy: a fence waits for the copies its thread has under way
// Memory  the slots; rows of x and of values between the products; sums of panels
// Cost    3 * hidden * inner * 17/32 bytes for each expert that has rows
// Needs   sm_90a; hidden and inner multiples of 32
//
// Who waits for whom, and why nobody waits for ever
//   A math warp waits for its slots in turn, and the asking warp fills each as soon as that warp
//   has freed it: nobody is more than one phase ahead. From its first unit of the second product on
//   a math warp also waits for inner_full of the unit's place. All units of the first product come
//   before, and need nothing but weights and x: so every CTA that runs gets through those.
//   The storing warp waits, place after place, for up_done: the CTA's strips of the first product.
//   The fetching warp waits, place after place, for `stored` (all strips of all CTAs) and, where
//   rows in shared memory are taken in turns, for inner_empty of earlier places: their units are
//   behind no others than of places before them, whose inner_full has been completed.
//   CTAs that do not run yet cannot store. Each claims its part of the first product when it
//   begins; a fetching warp that has waited long claims parts that nobody has, and does them
//   (stand_in). All barriers but the slots' have one phase a launch. Counters and claims in memory
//   are zero between launches: the last CTA whose fetching warp has seen all of `stored` makes them
//   so.
#include <cuda_bf16.h>

#include <algorithm>

#include "hopper/device/ptx.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/moe_stream.h"
#include "hopper/moe_stream_lists.cuh"
#include "hopper/moe_stream_math.cuh"
#include "hopper/moe_stream_shared.cuh"
#include "hopper/workspace_parts.h"

namespace moxie::hopper {
namespace {

using namespace stream;  // what this kernel's warps are made of

constexpr int kReady = 1, kListed = 2, kScaled = 3;  // named barriers
constexpr int kAskTogether = 8, kPollNanoseconds = 100;
constexpr uint64_t kPatienceNanoseconds = 100'000;
constexpr float kInnerScale = 0x1p64f;
static_assert(kScaleExponent == 64, "kInnerScale");

// Asks for the bias of the CTA's strips, a value a thread. The two warps of inner rows call.
__device__ __forceinline__ void request_bias(const Shared& shared) {
  const Kernel& kernel = shared.kernel;
  const MoeStreamPlan& plan = kernel.plan;
  const Lists& lists = shared.lists();
  const int cta = static_cast<int>(blockIdx.x), turns = plan.turns(cta), owned = plan.owned(cta);
  const int thread = static_cast<int>(threadIdx.x) - (kernel.warps + 1) * 32;
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

// Lists all units of the CTA. The warps that multiply call: the first weights are on their way.
__device__ __forceinline__ void list_units(const Shared& shared, int thread, int threads) {
#pragma unroll 1
  for (int i = thread; i < shared.kernel.at.num_units; i += threads)
    shared.units()[i] =
        Units(shared, static_cast<int>(blockIdx.x), shared.lists().first_is_mine != 0, i).get();
}

__device__ __forceinline__ void request(const Shared& shared, const Unit& unit, int slot) {
  const MoeGroupedArgs& args = shared.kernel.args;
  const bool up = unit.up != 0;
  uint64_t* full = shared.full() + slot;
  unsigned char* to = shared.slot(slot);
  mbarrier_expect(full, static_cast<uint32_t>(unit.blocks * (kBlockCodes + kBlockScales)));
  bulk_copy(to, (up ? args.gate_up_codes : args.down_codes) + int64_t{unit.begin} * kBlockCodes,
            static_cast<uint32_t>(unit.blocks * kBlockCodes), full);
  bulk_copy(to + kSlotCodes,
            (up ? args.gate_up_scales : args.down_scales) + int64_t{unit.begin} * kBlockScales,
            static_cast<uint32_t>(unit.blocks * kBlockScales), full);
}

// Asks for the first weights, a lane a slot, before units are listed. Whether that was all for this
// lane's slot.
__device__ __forceinline__ bool ask_for_first_weights(const Shared& shared, int lane) {
  const Unit unit =
      Units(shared, static_cast<int>(blockIdx.x), shared.lists().first_is_mine != 0, lane).get();
  const bool done = lane >= shared.kernel.slots || unit.blocks == 0;
#pragma unroll 1
  for (int first = 0; first < 32; first += kAskTogether)  // nobody's scales behind all codes
    if (!done && lane >= first && lane < first + kAskTogether) request(shared, unit, lane);
  return done;
}

// Asks for others as slots get free. Issuing copies takes time that math warps do not have.
__device__ __forceinline__ void ask_for_weights(const Shared& shared, int lane, bool done) {
  const Kernel& kernel = shared.kernel;
  // A slot is always the same warp's, so that this never waits for a phase before the last.
  const int warp_slots = (kernel.slots - 1 - lane % kernel.warps) / kernel.warps + 1;
  const int step = warp_slots * kernel.warps;
  const Unit* next = shared.units() + lane + step;
  uint32_t parity = 0;
  done = done || next->blocks == 0;
  while (!__all_sync(kAll, done)) {
    if (!done && mbarrier_test(shared.empty() + lane, parity)) {
      request(shared, *next, lane);
      next += step, parity ^= 1;
      done = next->blocks == 0;
    }
    __nanosleep(kPollNanoseconds);
  }
}

// Adds up panels in the order of k, and bias: a strip's row `row` and column `column` of a place.
__device__ __forceinline__ float add_panels(const float* sums, int step, int panels, float bias) {
  float total = sums[0];
#pragma unroll 4
  for (int panel = 1; panel < panels; ++panel) total += sums[panel * step];
  return total + bias;
}

// Stores the CTA's values between the products, place after place, and says so to all. One warp,
// not one that copies: a fence waits for the bulk copies that its thread has under way.
__device__ __forceinline__ void store_inner(const Shared& shared, int lane) {
  const Kernel& kernel = shared.kernel;
  const MoeStreamPlan& plan = kernel.plan;
  const Lists& lists = shared.lists();
  const int cta = static_cast<int>(blockIdx.x), turns = plan.turns(cta), row = lane % kStripRows;
  // The other product's, too, which all threads read after the last barrier.
  mbarrier_wait(shared.bias_full(), 0);
  if (lists.first_is_mine == 0) return;
  const float* sums = shared.at<float>(kernel.at.sums) + row;
  const float* bias = shared.at<float>(kernel.at.up_bias) + row;
  int rest = cta;
  for (int place = 0; place < lists.places; ++place) {
    const int strips = turns + (rest < plan.rest ? 1 : 0);
    const int begin = lists.begin[place], count = lists.count[place];
    for (int i = 0; i < strips; ++i) {
      const int number = place * kernel.at.up_strips + i;
      const int strip = i < turns ? plan.turn_strip(cta, i) : plan.first_rest() + rest;
      mbarrier_wait(shared.up_done() + number, 0);
      const float* of_strip =
          sums + (begin * kernel.at.place_sums + i * plan.up_panels * count) * kStripRows;
      for (int first = 0; first < count; first += 2) {
        const int column = first + lane / kStripRows, c = min(column, count - 1);
        const float total = add_panels(of_strip + c * kStripRows, count * kStripRows,
                                       plan.up_panels, bias[number * kStripRows]);
        const float other = __shfl_xor_sync(kAll, total, 1);  // gate and linear part alternate
        const float value = swiglu(total, other, kernel.args.alpha, kernel.args.limit);
        if (column < count && row % 2 == 0)
          reinterpret_cast<__nv_bfloat16*>(
              kernel.inner)[static_cast<int64_t>(begin + column) * kernel.args.sizes.inner +
                            strip * (kStripRows / 2) + row / 2] =
              __float2bfloat16(value * kInnerScale);
      }
    }
    __syncwarp();  // all lanes have stored
    if (lane == 0 && strips > 0) add_release(kernel.stored + place, static_cast<uint32_t>(strips));
    if (lane == 0 && place == lists.places - 1) MOXIE_MARK(4);
    rest -= plan.rest;
    if (rest < 0) rest += plan.ctas;
  }
}

// Does the first product of CTAs that have not begun, alone and slowly, from weights in memory:
// they may be kept from it by CTAs that wait as this one does.
__device__ __noinline__ void stand_in(const Shared shared, int lane, bool any_large) {
  const Kernel& kernel = shared.kernel;
  const MoeStreamPlan& plan = kernel.plan;
  const MoeGroupedArgs& args = kernel.args;
  const Lists& lists = shared.lists();
  const PanelProduct product(shared, lane, any_large);
  unsigned open = 0;  // of 32 CTAs, those that have not begun
  for (int cta = 0; cta < plan.ctas; ++cta) {
    if (cta % 32 == 0)
      open = __ballot_sync(kAll,
                           cta + lane < plan.ctas && load_acquire(kernel.claims + cta + lane) == 0);
    if ((open >> (cta % 32) & 1u) == 0) continue;
    uint32_t taken = 0;
    if (lane == 0) taken = atomicExch(kernel.claims + cta, 1u);
    if (__shfl_sync(kAll, taken, 0) != 0) continue;
    Units units(shared, cta, true, 0);
    const int panels = plan.up_panels;
    for (;;) {
      float total[4] = {};
      Unit unit{};
      int strip = 0;
      for (int panel = 0; panel < panels; ++panel) {
        unit = units.get();
        if (unit.blocks == 0 || unit.up == 0) break;
        strip = units.strip();
        float sums[4] = {};
        product.run(unit, args.gate_up_codes + int64_t{unit.begin} * kBlockCodes,
                    args.gate_up_scales + int64_t{unit.begin} * kBlockScales, sums);
#pragma unroll
        for (int i = 0; i < 4; ++i) total[i] = panel == 0 ? sums[i] : total[i] + sums[i];
        units.move(1);
      }
      if (unit.blocks == 0 || unit.up == 0) break;
      const float* bias =
          args.gate_up_bias == nullptr
              ? nullptr
              : args.gate_up_bias +
                    (int64_t{lists.expert[unit.place]} * plan.up_strips + strip) * kStripRows;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        total[i] += bias == nullptr ? 0.0f : bias[row];
        const float other = __shfl_xor_sync(kAll, total[i], 4);
        const float value = swiglu(total[i], other, args.alpha, args.limit);
        if (row % 2 == 0 && column < unit.entries)
          reinterpret_cast<__nv_bfloat16*>(
              kernel.inner)[static_cast<int64_t>(unit.first_entry + column) * args.sizes.inner +
                            strip * (kStripRows / 2) + row / 2] =
              __float2bfloat16(value * kInnerScale);
      }
      __syncwarp();  // all lanes have stored
      if (lane == 0) add_release(kernel.stored + unit.place, 1u);
    }
  }
}

// Fetches the values between the products, place after place, as soon as they are stored and there
// is room. One warp.
__device__ __forceinline__ void fetch_inner(const Shared& shared, int lane, bool any_large) {
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
    for (bool stored = false; !stored;) {
      if (lane == 0) {
        const uint64_t since = nanoseconds();
        do {
          stored =
              load_acquire(kernel.stored + place) >= static_cast<uint32_t>(kernel.plan.up_strips);
        } while (!stored && nanoseconds() - since < kPatienceNanoseconds);
      }
      stored = __shfl_sync(kAll, static_cast<int>(stored), 0) != 0;
      if (!stored) stand_in(shared, lane, any_large);
    }
    if (lane == 0)
      mbarrier_expect(shared.inner_full() + place, static_cast<uint32_t>(count) * row_bytes);
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
    for (int cta = lane; cta < kernel.plan.ctas; cta += 32) kernel.claims[cta] = 0;
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
  const int asker = kernel.warps;
  if (thread == 0) MOXIE_MARK(0);
  let_next_kernel_start();
  set_up(shared);
  __syncthreads();
  wait_for_previous_kernel();
  if (thread == 0) MOXIE_MARK(1);

  // Small reads first: behind the weights they would wait long.
  const int owned_rows = kernel.plan.owned(cta) * kStripRows;
  const int out_row = thread / max(owned_rows, 1);
  const int out_column = thread - out_row * owned_rows;  // among those owned
  const int64_t out_at = kernel.plan.first_owned(cta) * kStripRows + out_column;
  const bool has_output = thread < rows * owned_rows;
  float residual = 0;
  // Row r is routed by warp asker + r, then 0, 1 ..; math warps that route none load x.
  const int routed = warp >= asker ? warp - asker : warp + kOtherWarps;
  const int first_loader = max(rows - kOtherWarps, 0);
  if (routed < rows) {
    uint32_t taken = 0;
    if (routed == 0 && lane == 0) taken = atomicExch(kernel.claims + cta, 1u);
    route_row(shared, routed, lane);
    if (routed == 0 && lane == 0) shared.lists().first_is_mine = taken == 0 ? 1 : 0;
  }
  if (warp >= first_loader && warp < asker)
    load_x(shared, thread - first_loader * 32, (asker - first_loader) * 32);
  if (has_output && args.residual != nullptr)
    residual = load_bf16(args.residual + out_row * args.residual_stride + out_at);
  if (rows > 1) __syncthreads();  // all rows are routed
  bool any_large = false, asked = false;
  if (warp == asker) {
    __syncwarp();  // row 0 is routed
    make_lists(shared, lane);
    __syncwarp();  // the lists are written
    named_barrier_arrive(kReady, static_cast<int>(blockDim.x));
    if (lane == 0) MOXIE_MARK(2);
    asked = ask_for_first_weights(shared, lane);
  } else {
    named_barrier(kReady, static_cast<int>(blockDim.x));  // lists, x, barriers are there
    any_large = shared.lists().large[kMoeStreamMaxRows] != 0;
    if (any_large) {
      if (warp < asker) scale_large_rows(shared, thread, asker * 32);
      named_barrier(kScaled, static_cast<int>(blockDim.x) - 32);
    }
    if (warp < asker) list_units(shared, thread, asker * 32);
  }
  if (warp <= asker) {
    // In one place for all: synccheck takes a barrier for divergent otherwise.
    named_barrier(kListed, (asker + 1) * 32);
    if (warp == asker)
      ask_for_weights(shared, lane, asked);
    else
      run_math(shared, warp, lane, any_large);
  } else {
    request_bias(shared);
    if (warp == asker + 1) {
      fetch_inner(shared, lane, any_large);
    } else {
      store_inner(shared, lane);
    }
  }
  if (thread == 0) MOXIE_MARK(6);
  __syncthreads();  // all sums are there
  if (has_output) {
    // Over the row's experts in the order of its choice, each rounded.
    const Lists& lists = shared.lists();
    const int k = sizes.experts_per_token, panels = kernel.plan.down_panels;
    const int strip = out_column / kStripRows, row = out_column % kStripRows;
    float sum = 0;
#pragma unroll 1
    for (int entry = out_row * k; entry < (out_row + 1) * k; ++entry) {
      if (lists.local[entry] < 0) continue;
      const int place = lists.place[entry], begin = lists.begin[place], count = lists.count[place];
      const float* sums =
          shared.at<float>(kernel.at.sums) + row +
          (begin * kernel.at.place_sums + strip * panels * count + lists.position[entry] - begin) *
              kStripRows;
      const float bias = shared.at<float>(kernel.at.down_bias)[place * owned_rows + out_column];
      const float total = add_panels(sums, count * kStripRows, panels, bias);
      sum += __bfloat162float(__float2bfloat16(total * lists.weight[entry]));
    }
    __nv_bfloat16 out = __float2bfloat16(sum);
    if (args.residual != nullptr) out = __float2bfloat16(residual + __bfloat162float(out));
    reinterpret_cast<__nv_bfloat16*>(args.out)[out_row * args.out_stride + out_at] = out;
  }
  if (thread == 0) MOXIE_MARK(7);
}

int owned_max(const MoeStreamPlan& plan) { return plan.owned(plan.ctas - 1); }

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
  p.x = c.slots * kSlotBytes;
  p.inner = p.x + rows * p.x_pitch;
  p.zeros = p.inner + c.inner_rows * p.inner_pitch;
  p.zeros += (p.x + 96 - p.zeros % 128 + 128) % 128;  // in other banks than a first row
  p.sums = p.zeros + kPanelDepth * 2;
  p.up_bias = p.sums + entries * p.place_sums * kStripRows * 4;
  p.down_bias = p.up_bias + entries * p.up_strips * kStripRows * 4;
  p.units = p.down_bias + entries * owned_max(plan) * kStripRows * 4;
  p.num_units = entries * (p.up_strips * plan.up_panels + owned_max(plan) * plan.down_panels) +
                c.warps + c.slots;
  p.lists = p.units + p.num_units * int{sizeof(Unit)};
  p.barriers = p.lists + aligned(int{sizeof(Lists)});
  p.up_done = p.barriers + kFixedBarriers * 8;
  p.end = p.up_done + entries * p.up_strips * 8;
  return p;
}

class Parts : public WorkspaceParts {
 public:
  Parts(const MoeSizes& sizes, void* memory) : WorkspaceParts(memory) {
    stored = take<uint32_t>(kMaxPlaces);
    claims = take<uint32_t>(kMaxCtas);
    ctas_done = take<uint32_t>(1);
    state_bytes = bytes();
    inner = take<bf16>(sizes.rows * sizes.experts_per_token * sizes.inner);
  }
  uint32_t *stored, *claims, *ctas_done;
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
      num_sms > kMaxCtas || !supports_moe_grouped(sizes))
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
  const int most_warps = options.warps > 0 ? options.warps : 12;
  // A thread an output; a slot a warp.
  const int least_warps = (static_cast<int>(sizes.rows) * owned_max(c.plan) * kStripRows + 31) / 32;
  // Some route a row each, and others fetch x meanwhile.
  const int fewest = std::max({least_warps, static_cast<int>(sizes.rows) - kOtherWarps + 1,
                               options.warps > 0 ? options.warps : 8});
  for (c.warps = std::min(most_warps, kMaxWarps); c.warps >= fewest; --c.warps)
    for (c.slots = std::min(options.slots > 0 ? options.slots : 2 * c.warps, kMaxSlots);
         c.slots >= std::max(c.warps, options.slots); --c.slots) {
      c.shared_bytes = places(sizes, c).end;
      if (c.shared_bytes <= kSharedLimit) return c;
    }
  c.warps = c.slots = c.shared_bytes = 0;
  return c;
}

bool supports_moe_stream(const MoeSizes& sizes, int num_sms) {
  return select_moe_stream_config(sizes, num_sms).slots > 0;
}

bool supports_moe_stream_swiglu(float alpha, float limit) {
  // g * sigmoid(alpha * g) is never less than -0.28 / alpha, for alpha above 0.
  return alpha > 0 && std::max(double{limit}, 1 / double{alpha}) * (double{limit} + 1) < 0x1p62;
}

std::string to_string(const MoeStreamConfig& c) {
  return "moe_stream: " + std::to_string(c.warps) + " warps, " + std::to_string(c.slots) +
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
  kernel.one_over_up_panels = 65536u / static_cast<uint32_t>(config.plan.up_panels) + 1;
  kernel.one_over_down_panels = 65536u / static_cast<uint32_t>(config.plan.down_panels) + 1;
  kernel.two_to_23 = 1u << 23;
  kernel.stored = parts.stored, kernel.claims = parts.claims;
  kernel.ctas_done = parts.ctas_done, kernel.inner = parts.inner;
  cudaLaunchAttribute attributes[1]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.plan.ctas));
  launch.blockDim = dim3(static_cast<unsigned>(config.warps + kOtherWarps) * 32);
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = attributes;
  launch.numAttrs = 1;
  return cudaLaunchKernelEx(&launch, sm90_bf16_mxfp4_moe_stream, kernel);
}

}  // namespace moxie::hopper
