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

#include "hopper/device/choose_experts.cuh"
#include "hopper/device/cluster.cuh"
#include "hopper/device/decode.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/moe_stream.h"
#include "hopper/workspace_parts.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr int kMaxWarps = 20, kMaxThreads = (kMaxWarps + 2) * 32;  // two for inner rows
constexpr int kMaxEntries = kMoeStreamMaxEntries;
constexpr int kMaxPlaces = kMaxEntries, kPlaceEntries = 8;  // columns of an mma
constexpr int kBiasThreads = 64;
constexpr int kMaxStreamExperts = 128;  // of a row of logits
constexpr int kSharedLimit = 227 * 1024;
constexpr int kStripRows = mxfp4::kStripRows, kPanelDepth = mxfp4::kPanelBlocks * mxfp4::kBlock;
constexpr int kBlockCodes = 256, kBlockScales = 16;  // bytes of a strip, one block deep
constexpr int kSlotCodes = mxfp4::kPanelBlocks * kBlockCodes;
constexpr int kSlotBytes = kSlotCodes + mxfp4::kPanelBlocks * kBlockScales;
constexpr int kStepBytes = mxfp4::kPairBlocks * mxfp4::kBlock * 2;  // of a row of bf16
static_assert(kMaxEntries <= 32, "a lane an entry");

#ifdef MOXIE_MOE_STREAM_MARKS
__device__ unsigned long long marks[132 * 16];
__device__ __forceinline__ void mark(int which) {
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  marks[blockIdx.x * 16 + which] = now;
}
__device__ __forceinline__ void mark_last(int which) {
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  atomicMax(&marks[blockIdx.x * 16 + which], now);
}
#define MOXIE_MARK(which) mark(which)
#define MOXIE_MARK_LAST(which) mark_last(which)
#else
#define MOXIE_MARK(which)
#define MOXIE_MARK_LAST(which)
#endif

// An entry is row * experts_per_token + choice. A place is an expert with up to 8 of its entries.
struct Lists {
  int places;
  int expert[kMaxPlaces];     // among the local ones
  uint8_t begin[kMaxPlaces];  // in `entry`
  uint8_t count[kMaxPlaces];
  // Of place after place:
  uint8_t entry[kMaxEntries], row[kMaxEntries];
  uint8_t inner_row[kMaxEntries];  // in shared memory
  int local[kMaxEntries];          // [entry] local expert, or -1
  float weight[kMaxEntries];       // [entry]
};

// Dynamic shared memory, in this order after the slots.
struct Places {
  int x, x_pitch, inner, inner_pitch;
  int sums;       // [place's begin][strip of the CTA][panel][column of the place][16]
  int outputs;    // [entry][owned row] bf16
  int up_bias;    // [place][strip of the CTA][16]
  int down_bias;  // [place][owned row]
  int staged;     // [place's begin][strip of the CTA][column of the place][8] bf16
  int units;      // [warp][its units]
  int lists;
  int barriers;            // of slots and places
  int up_done, down_done;  // barriers of [place][strip of the CTA], [place][owned strip]
  int end;
  int place_sums;  // of an entry, in strips of sums
  int up_strips;   // of a place that a CTA can have
};

struct Kernel {
  MoeGroupedArgs args;
  MoeStreamPlan plan;
  Places at;
  int warps, slots, inner_rows, warp_units;
  uint32_t one_over_up_panels, one_over_down_panels;  // times 2^16, rounded up
  uint32_t* stored;                                   // [place] strips of the first product
  uint32_t* ctas_done;                                // that wait for no more of these
  bf16* inner;                                        // [entry in the lists' order, inner]
};

struct Shared {
  unsigned char* base;
  const Kernel& kernel;
  template <class T>
  __device__ T* at(int offset) const {
    return reinterpret_cast<T*>(base + offset);
  }
  __device__ unsigned char* slot(int warp, int slot) const {
    return base + (warp * kernel.slots + slot) * kSlotBytes;
  }
  __device__ Lists& lists() const { return *at<Lists>(kernel.at.lists); }
  __device__ uint64_t* full(int warp) const {
    return at<uint64_t>(kernel.at.barriers) + warp * kernel.slots;
  }
  __device__ uint64_t* inner_full() const { return full(kernel.warps); }
  __device__ uint64_t* inner_empty() const { return inner_full() + kMaxPlaces; }
  // Places' strips of the first product, and one more arrival.
  __device__ uint64_t* up_ready() const { return inner_empty() + kMaxPlaces; }
  __device__ uint64_t* bias_full() const { return up_ready() + kMaxPlaces; }
  // Eight values between the products.
  __device__ __nv_bfloat16* staged(int begin, int i) const {
    return at<__nv_bfloat16>(kernel.at.staged) +
           (begin * kernel.at.up_strips + i) * (kStripRows / 2);
  }
  __device__ bf16* outputs() const { return at<bf16>(kernel.at.outputs); }
};

// What depends on no other kernel: barriers and counters.
__device__ void set_up(const Shared& shared) {
  const Kernel& kernel = shared.kernel;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const MoeStreamPlan& plan = kernel.plan;
  const int cta = static_cast<int>(blockIdx.x), owned = plan.owned(cta);
  uint64_t* first = shared.full(0);
  // One loop over all of them: each initialisation brings a fence.
#pragma unroll 1
  for (int i = thread; i < (kernel.at.end - kernel.at.barriers) / 8; i += threads) {
    const uint64_t* barrier = first + i;
    const int arrivals = barrier < shared.inner_empty()  ? 1
                         : barrier < shared.up_ready()   ? max(owned * plan.down_panels, 1)
                         : barrier < shared.bias_full()  ? plan.turns(cta) + 1
                         : barrier == shared.bias_full() ? kBiasThreads
                         : i < (kernel.at.down_done - kernel.at.barriers) / 8 ? plan.up_panels
                                                                              : plan.down_panels;
    mbarrier_init(first + i, static_cast<uint32_t>(arrivals));
  }
  fence_mbarrier_init();
  if (kernel.args.gate_up_bias == nullptr)
#pragma unroll 1
    for (int i = thread; i < (kernel.at.down_bias - kernel.at.up_bias) / 4; i += threads)
      shared.at<float>(kernel.at.up_bias)[i] = 0;
  if (kernel.args.down_bias == nullptr)
#pragma unroll 1
    for (int i = thread; i < (kernel.at.staged - kernel.at.down_bias) / 4; i += threads)
      shared.at<float>(kernel.at.down_bias)[i] = 0;
}

// Row `row`'s choice, by one warp.
__device__ void route_row(const Shared& shared, int row, int lane) {
  const MoeGroupedArgs& args = shared.kernel.args;
  const MoeSizes& sizes = args.sizes;
  Choice choice{};
  if (args.logits != nullptr) {
    const LogitRow logits{args.logits, row * args.logits_stride, args.logits_bf16};
    const int k = sizes.experts_per_token;
    choice = choose_experts<kMaxStreamExperts / 32>(logits, sizes.all_experts, k, lane);
  } else if (lane < sizes.experts_per_token) {
    const int64_t at = static_cast<int64_t>(row) * sizes.experts_per_token + lane;
    choice = {__ldcg(args.expert_ids + at), __ldcg(args.weights + at)};
  }
  if (lane < sizes.experts_per_token) {
    const int entry = row * sizes.experts_per_token + lane, id = choice.expert - sizes.first_expert;
    const bool local = choice.expert >= sizes.first_expert && id < sizes.num_experts;
    shared.lists().local[entry] = local ? id : -1;
    shared.lists().weight[entry] = choice.weight;
  }
}

// The places, by one warp.
__device__ void make_lists(const Shared& shared, int lane) {
  Lists& lists = shared.lists();
  const MoeSizes& sizes = shared.kernel.args.sizes;
  const int entries = static_cast<int>(sizes.rows) * sizes.experts_per_token;
  const int expert = lane < entries ? lists.local[lane] : -1;
  const unsigned same = __match_any_sync(kAll, expert), below = (1u << lane) - 1;
  const int rank = __popc(same & below);
  const bool leads = expert >= 0 && rank % kPlaceEntries == 0;
  const unsigned leaders = __ballot_sync(kAll, leads);
  const int count = leads ? min(kPlaceEntries, __popc(same) - rank) : 0;
  int begin = count;  // of the leader's place: the sum over leaders before
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const int before = __shfl_up_sync(kAll, begin, d);
    if (lane >= d) begin += before;
  }
  begin -= count;
  const unsigned of_place = same & leaders & (below | 1u << lane);  // the last of these leads it
  const int leader = expert >= 0 ? 31 - __clz(static_cast<int>(of_place)) : lane;
  const int place_begin = __shfl_sync(kAll, begin, leader);
  if (expert >= 0) {
    const int position = place_begin + rank % kPlaceEntries;
    lists.entry[position] = static_cast<uint8_t>(lane);
    lists.row[position] = static_cast<uint8_t>(lane / sizes.experts_per_token);
    lists.inner_row[position] = static_cast<uint8_t>(position % shared.kernel.inner_rows);
  }
  if (leads) {
    const int place = __popc(leaders & below);
    lists.expert[place] = expert;
    lists.begin[place] = static_cast<uint8_t>(begin);
    lists.count[place] = static_cast<uint8_t>(count);
  }
  if (lane == 0) lists.places = __popc(leaders);
}

// A panel of a strip, as its warp finds it in shared memory: a few instructions a unit, where
// working it out takes a hundred.
struct alignas(16) Unit {
  uint32_t begin;  // in all experts' matrices, in blocks of 16 rows
  uint16_t sums;   // where its sums are kept, in 16
  uint16_t strip;  // of the CTA's strips of all places
  uint8_t blocks;  // in k; 0: there is no such unit
  uint8_t up, place, in_place, panel;
  uint8_t first_entry, entries;  // of the place
};
static_assert(sizeof(Unit) == 16);

// The units of a CTA in order: of the first product place after place, then of the second; of a
// place strip after strip.
class Units {
 public:
  __device__ __forceinline__ Units(const Kernel& kernel, int places, int first)
      : kernel_(kernel), places_(places), turns_(kernel.plan.turns(cta())), rest_at_(cta()) {
    up_ = places > 0;
    set_count();
    move(first);
  }
  __device__ __forceinline__ bool left() const { return place_ < places_; }
  __device__ __forceinline__ void move(int by) {
    at_ += by;
    while (left() && at_ >= count_) {
      at_ -= count_;
      ++place_;
      rest_at_ -= kernel_.plan.rest;
      if (rest_at_ < 0) rest_at_ += kernel_.plan.ctas;
      if (up_ && place_ == places_) up_ = false, place_ = 0;
      set_count();
    }
  }
  __device__ __forceinline__ Unit get(const Lists& lists) const {
    Unit unit{};
    if (!left()) return unit;
    const MoeStreamPlan& plan = kernel_.plan;
    const MoeSizes& sizes = kernel_.args.sizes;
    const int panels = up_ ? plan.up_panels : plan.down_panels;
    const int in_place =
        static_cast<int>(static_cast<uint32_t>(at_) *
                             (up_ ? kernel_.one_over_up_panels : kernel_.one_over_down_panels) >>
                         16);
    const int panel = at_ - in_place * panels;
    const int strip = !up_                ? plan.first_owned(cta()) + in_place
                      : in_place < turns_ ? plan.turn_strip(cta(), in_place)
                                          : plan.first_rest() + rest_at_;
    // mxfp4::strip_panel, in blocks of 16 rows.
    constexpr int kTileStrips = mxfp4::kTileRows / kStripRows;
    const int blocks = (up_ ? sizes.hidden : sizes.inner) / mxfp4::kBlock;
    const int strips = up_ ? plan.up_strips : plan.down_strips;
    const int in_tile = strip % kTileStrips, first = strip - in_tile;
    const int before = panel * mxfp4::kPanelBlocks;
    const int of_panel = min(mxfp4::kPanelBlocks, blocks - before);
    unit.begin =
        static_cast<uint32_t>(lists.expert[place_] * strips * blocks + first * blocks +
                              before * min(kTileStrips, strips - first) + in_tile * of_panel);
    unit.blocks = static_cast<uint8_t>(of_panel);
    unit.up = up_ ? 1 : 0;
    unit.place = static_cast<uint8_t>(place_);
    unit.in_place = static_cast<uint8_t>(in_place);
    unit.panel = static_cast<uint8_t>(panel);
    unit.first_entry = lists.begin[place_];
    unit.entries = lists.count[place_];
    unit.sums =
        static_cast<uint16_t>(unit.first_entry * kernel_.at.place_sums + at_ * unit.entries);
    unit.strip =
        static_cast<uint16_t>(place_ * (up_ ? kernel_.at.up_strips : plan.owned(cta())) + in_place);
    return unit;
  }

 private:
  static __device__ __forceinline__ int cta() { return static_cast<int>(blockIdx.x); }
  __device__ __forceinline__ void set_count() {
    const MoeStreamPlan& plan = kernel_.plan;
    count_ = up_ ? (turns_ + (rest_at_ < plan.rest ? 1 : 0)) * plan.up_panels
                 : plan.owned(cta()) * plan.down_panels;
    if (!up_ && count_ == 0) place_ = places_;  // owns nothing
  }

  const Kernel& kernel_;
  int places_, turns_;
  int rest_at_;  // plan.rest_of(cta, place)
  int place_ = 0, at_ = 0, count_ = 0;
  bool up_;
};

// A warp's units: asks for their weights, multiplies, adds up.
class MathWarp {
 public:
  __device__ __forceinline__ MathWarp(const Shared& shared, int warp, int lane)
      : shared_(shared),
        kernel_(shared.kernel),
        plan_(shared.kernel.plan),
        lists_(shared.lists()),
        warp_(warp),
        lane_(lane),
        units_(shared.at<Unit>(shared.kernel.at.units) + warp * shared.kernel.warp_units),
        owned_(plan_.owned(static_cast<int>(blockIdx.x))) {}

  // Asks for the weights of the warp's first unit, then lists all, a lane a unit, and asks for
  // those of other slots.
  __device__ __forceinline__ void begin() {
#pragma unroll 1
    for (int i = -32; i < kernel_.warp_units; i += 32) {
      const int mine = i < 0 ? 0 : i + lane_;
      const Unit unit = Units(kernel_, lists_.places, warp_ + mine * kernel_.warps).get(lists_);
      if (i < 0) {
        request(unit, 0);
      } else if (mine < kernel_.warp_units) {
        units_[mine] = unit;
      }
    }
    __syncwarp();  // they are written
    for (int i = 1; i < kernel_.slots; ++i)
      if (i < kernel_.warp_units) request(units_[i], i);
  }

  __device__ __forceinline__ void run() {
    int slot = 0;
    uint32_t parity = 0;
    for (int i = 0; i < kernel_.warp_units; ++i) {
      const Unit unit = units_[i];
      if (unit.blocks == 0) break;
      const bool up = unit.up != 0;
      const uint32_t rows = rows_of(unit);
      if (!up) mbarrier_wait(shared_.inner_full() + unit.place, 0);
      if (lane_ == 0 && !up) MOXIE_MARK_LAST(8);
      mbarrier_wait(shared_.full(warp_) + slot, parity);
      if (warp_ == 0 && lane_ == 0 && i == 0) MOXIE_MARK(3);
      if (lane_ == 0) MOXIE_MARK_LAST(9);
      float sums[4] = {};
      multiply(shared_.slot(warp_, slot), unit.blocks, rows, sums);
      __syncwarp();  // all lanes have read the slot before it is written anew
      if (i + kernel_.slots < kernel_.warp_units) request(units_[i + kernel_.slots], slot);
      if (++slot == kernel_.slots) slot = 0, parity ^= 1;
      if (!up && lane_ == 0) mbarrier_arrive(shared_.inner_empty() + unit.place);
      finish(unit, sums);
    }
  }

 private:
  // Asks for a unit's weights, if there is one. One lane copies codes, one scales.
  __device__ __forceinline__ void request(const Unit& unit, int slot) {
    if (unit.blocks == 0) return;
    uint64_t* full = shared_.full(warp_) + slot;
    if (lane_ == 0)
      mbarrier_expect(full, static_cast<uint32_t>(unit.blocks * (kBlockCodes + kBlockScales)));
    __syncwarp();  // expected before it can have arrived
    if (lane_ >= 2) return;
    const MoeGroupedArgs& args = kernel_.args;
    const bool scales = lane_ == 1, up = unit.up != 0;
    const int unit_bytes = scales ? kBlockScales : kBlockCodes;
    const uint8_t* matrices = up ? (scales ? args.gate_up_scales : args.gate_up_codes)
                                 : (scales ? args.down_scales : args.down_codes);
    bulk_copy(shared_.slot(warp_, slot) + (scales ? kSlotCodes : 0),
              matrices + static_cast<int64_t>(unit.begin) * unit_bytes,
              static_cast<uint32_t>(unit.blocks * unit_bytes), full);
  }

  // Where this lane's ldmatrix finds its row of x, or of values between the products. Columns past
  // the last read the last: their sums are not used.
  __device__ __forceinline__ uint32_t rows_of(const Unit& unit) const {
    const int position = unit.first_entry + min(lane_ % 8, unit.entries - 1);
    const Places& at = kernel_.at;
    int offset = unit.panel * (kPanelDepth * 2) + lane_ / 8 * 16;
    if (unit.up != 0) {
      offset += at.x + lists_.row[position] * at.x_pitch;
    } else {
      offset += at.inner + lists_.inner_row[position] * at.inner_pitch;
    }
    return shared_address(shared_.base) + static_cast<uint32_t>(offset);
  }

  template <int kBlockOfPair, bool kAnyScale>
  __device__ __forceinline__ void multiply_block(uint32_t low, uint32_t high, uint32_t scales,
                                                 uint32_t row, float (&sums)[4]) const {
    uint32_t a[4], b[4], x[4];
    load_matrices(x, row);
    if constexpr (kAnyScale) {
      const uint4 u = decode_word_any_scale(low, (scales >> (16 * kBlockOfPair)) & 255u);
      const uint4 v = decode_word_any_scale(high, (scales >> (16 * kBlockOfPair + 8)) & 255u);
      a[0] = u.x, a[1] = u.y, a[2] = u.z, a[3] = u.w;
      b[0] = v.x, b[1] = v.y, b[2] = v.z, b[3] = v.w;
    } else {
      decode_word(low, small_factor<2 * kBlockOfPair>(scales), a);
      decode_word(high, small_factor<2 * kBlockOfPair + 1>(scales), b);
    }
    mma_m16n8k16(sums, a[0], b[0], a[1], b[1], x[0], x[1]);
    mma_m16n8k16(sums, a[2], b[2], a[3], b[3], x[2], x[3]);
  }

  // The sums of a panel: of first blocks of pairs, and of second ones, then both.
  __device__ __forceinline__ void multiply(const unsigned char* slot, int blocks, uint32_t row,
                                           float (&sums)[4]) const {
    const uint4* codes = reinterpret_cast<const uint4*>(slot) + lane_;
    const uint32_t* scales = reinterpret_cast<const uint32_t*>(slot + kSlotCodes);
    scales += lane_ / 4;
    float second[4] = {};
    uint32_t all = 0;
    const bool whole = blocks == mxfp4::kPanelBlocks;
    if (whole) {
#pragma unroll 3
      for (int step = 0; step < mxfp4::kPanelBlocks / 2; ++step) {
        const uint4 words = codes[step * 32];
        const uint32_t factors = scales[step * 8];
        all |= factors;
        const uint32_t x = row + static_cast<uint32_t>(step * kStepBytes);
        multiply_block<0, false>(words.x, words.y, factors, x, sums);
        multiply_block<1, false>(words.z, words.w, factors, x + kStepBytes / 2, second);
      }
    }
    if (__any_sync(kAll, !whole || has_large_scale(all))) {  // anew, in the general way
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i] = second[i] = 0;
      multiply_any(slot, blocks, row, sums, second);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += second[i];
  }

  // The same for scales that decode_word() cannot take, and for other depths; a block without
  // partner takes half the bytes.
  __device__ __forceinline__ void multiply_any(const unsigned char* slot, int blocks, uint32_t row,
                                               float (&sums)[4], float (&second)[4]) const {
    const unsigned char* scales = slot + kSlotCodes;
    int step = 0;
#pragma unroll 1
    for (; step < blocks / 2; ++step, row += kStepBytes) {
      const uint4 words = reinterpret_cast<const uint4*>(slot)[step * 32 + lane_];
      const uint32_t factors = reinterpret_cast<const uint32_t*>(scales)[step * 8 + lane_ / 4];
      multiply_block<0, true>(words.x, words.y, factors, row, sums);
      multiply_block<1, true>(words.z, words.w, factors, row + kStepBytes / 2, second);
    }
    if (blocks % 2 != 0) {
      const uint2 words = reinterpret_cast<const uint2*>(slot + step * 512)[lane_];
      const uint32_t factors = reinterpret_cast<const uint16_t*>(scales + step * 32)[lane_ / 4];
      multiply_block<0, true>(words.x, words.y, factors, row, sums);
    }
  }

  // Keeps a panel's sums; adds up the strip's when they are all there.
  __device__ __forceinline__ void finish(const Unit& unit, const float (&sums)[4]) const {
    const bool up = unit.up != 0;
    const int panels = up ? plan_.up_panels : plan_.down_panels, count = unit.entries;
    float* of_panel = shared_.at<float>(kernel_.at.sums) + unit.sums * kStripRows;
    const int g = lane_ / 4, column = lane_ % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (column + i < count) {
        of_panel[(column + i) * kStripRows + g] = sums[i];
        of_panel[(column + i) * kStripRows + g + 8] = sums[2 + i];
      }
    __syncwarp();  // all lanes have written
    uint64_t* done =
        shared_.at<uint64_t>(up ? kernel_.at.up_done : kernel_.at.down_done) + unit.strip;
    bool last = false;
    if (lane_ == 0) last = mbarrier_arrive_pending(done) == 1;
    if (!__shfl_sync(kAll, static_cast<int>(last), 0)) return;
    mbarrier_wait(done, 0);  // is over; shows the other warps' sums
    const int row = lane_ % kStripRows;
    const float* of_strip = of_panel - unit.panel * count * kStripRows;
    mbarrier_wait(shared_.bias_full(), 0);
    const float bias = shared_.at<float>(up ? kernel_.at.up_bias
                                            : kernel_.at.down_bias)[unit.strip * kStripRows + row];
#pragma unroll 1
    for (int first = 0; first < count; first += 2) {
      const int c = min(first + lane_ / kStripRows, count - 1);
      const bool mine = first + lane_ / kStripRows < count;
      const float* sum = of_strip + c * kStripRows + row;
      float total = sum[0];
#pragma unroll 4
      for (int panel = 1; panel < panels; ++panel) total += sum[panel * count * kStripRows];
      total += bias;
      const int entry = lists_.entry[unit.first_entry + c];
      if (up) {
        const float other = __shfl_xor_sync(kAll, total, 1);  // gate and linear part alternate
        if (mine && row % 2 == 0)
          shared_.staged(unit.first_entry, unit.in_place * count + c)[row / 2] =
              __float2bfloat16(swiglu(total, other, kernel_.args.alpha, kernel_.args.limit));
      } else if (mine) {
        reinterpret_cast<__nv_bfloat16*>(
            shared_.outputs())[(entry * owned_ + unit.in_place) * kStripRows + row] =
            __float2bfloat16(total * lists_.weight[entry]);
      }
    }
    if (up) {
      __syncwarp();  // all lanes have written
      if (lane_ == 0) mbarrier_arrive(shared_.up_ready() + unit.place);
      if (lane_ == 0) MOXIE_MARK_LAST(4);
    }
  }

  const Shared& shared_;
  const Kernel& kernel_;
  const MoeStreamPlan& plan_;
  const Lists& lists_;
  int warp_, lane_;
  Unit* units_;  // the warp's
  int owned_;
};

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
