// What a CTA of moe_stream.cu has to do: routing, the places that have rows, units of work.
#pragma once

#include "hopper/device/choose_experts.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/moe_stream_shared.cuh"

namespace moxie::hopper::stream {

// What depends on no other kernel: barriers, and zeros. All threads.
inline __device__ void set_up(const Shared& shared) {
  const Kernel& kernel = shared.kernel;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const MoeStreamPlan& plan = kernel.plan;
  const int owned = plan.owned(static_cast<int>(blockIdx.x));
  // One loop over all of them: each initialisation brings a fence.
#pragma unroll 1
  for (int i = thread; i < (kernel.at.end - kernel.at.barriers) / 8; i += threads) {
    uint64_t* barrier = shared.full() + i;
    const int arrivals = barrier < shared.inner_empty()  ? 1
                         : barrier < shared.bias_full()  ? max(owned * plan.down_panels, 1)
                         : barrier == shared.bias_full() ? kBiasThreads
                                                         : plan.up_panels;
    mbarrier_init(barrier, static_cast<uint32_t>(arrivals));
  }
  fence_mbarrier_init();
  if (thread <= kMoeStreamMaxRows) shared.lists().large[thread] = 0;
  if (thread < kPanelDepth * 2 / 16)
    shared.at<uint4>(kernel.at.zeros)[thread] = make_uint4(0, 0, 0, 0);
  if (kernel.args.gate_up_bias == nullptr)
#pragma unroll 1
    for (int i = thread; i < (kernel.at.down_bias - kernel.at.up_bias) / 4; i += threads)
      shared.at<float>(kernel.at.up_bias)[i] = 0;
  if (kernel.args.down_bias == nullptr)
#pragma unroll 1
    for (int i = thread; i < (kernel.at.units - kernel.at.down_bias) / 4; i += threads)
      shared.at<float>(kernel.at.down_bias)[i] = 0;
}

// Row `row`'s choice, by one warp.
inline __device__ void route_row(const Shared& shared, int row, int lane) {
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
inline __device__ void make_lists(const Shared& shared, int lane) {
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
    lists.position[lane] = static_cast<uint8_t>(position);
    lists.place[lane] = static_cast<uint8_t>(__popc(leaders & ((2u << leader) - 1)) - 1);
  }
  if (leads) {
    const int place = __popc(leaders & below);
    lists.expert[place] = expert;
    lists.begin[place] = static_cast<uint8_t>(begin);
    lists.count[place] = static_cast<uint8_t>(count);
  }
  if (lane == 0) lists.places = __popc(leaders);
}

// The units of a CTA in order: of the first product place after place, then of the second; of a
// place strip after strip.
class Units {
 public:
  // For CTA `cta`; without those of the first product unless `with_first`.
  __device__ __forceinline__ Units(const Shared& shared, int cta, bool with_first, int first)
      : kernel_(shared.kernel),
        lists_(shared.lists()),
        cta_(cta),
        places_(lists_.places),
        turns_(kernel_.plan.turns(cta)),
        rest_at_(cta) {
    up_ = with_first && places_ > 0;
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
  __device__ __forceinline__ Unit get() const {
    Unit unit{};
    if (!left()) return unit;
    const MoeStreamPlan& plan = kernel_.plan;
    const MoeSizes& sizes = kernel_.args.sizes;
    const Places& at = kernel_.at;
    const int panels = up_ ? plan.up_panels : plan.down_panels;
    const int in_place =
        static_cast<int>(static_cast<uint32_t>(at_) *
                             (up_ ? kernel_.one_over_up_panels : kernel_.one_over_down_panels) >>
                         16);
    const int panel = at_ - in_place * panels;
    const int strip = strip_of(in_place);
    // mxfp4::strip_panel, in blocks of 16 rows.
    constexpr int kTileStrips = mxfp4::kTileRows / kStripRows;
    const int blocks = (up_ ? sizes.hidden : sizes.inner) / mxfp4::kBlock;
    const int strips = up_ ? plan.up_strips : plan.down_strips;
    const int in_tile = strip % kTileStrips, first = strip - in_tile;
    const int before = panel * mxfp4::kPanelBlocks;
    const int of_panel = min(mxfp4::kPanelBlocks, blocks - before);
    unit.begin =
        static_cast<uint32_t>(lists_.expert[place_] * strips * blocks + first * blocks +
                              before * min(kTileStrips, strips - first) + in_tile * of_panel);
    unit.blocks = static_cast<uint8_t>(of_panel);
    unit.up = up_ ? 1 : 0;
    unit.place = static_cast<uint8_t>(place_);
    unit.first_entry = lists_.begin[place_];
    unit.entries = lists_.count[place_];
    unit.sums = static_cast<uint16_t>(unit.first_entry * at.place_sums + at_ * unit.entries);
    unit.strip = static_cast<uint16_t>(place_ * at.up_strips + in_place);  // of the first product
    unit.panel = static_cast<uint8_t>(panel);
    return unit;
  }
  // The unit's strip in its matrix, of the first product.
  __device__ __forceinline__ int strip() const { return strip_of(at_ / kernel_.plan.up_panels); }

 private:
  __device__ __forceinline__ int strip_of(int in_place) const {
    const MoeStreamPlan& plan = kernel_.plan;
    return !up_                ? plan.first_owned(cta_) + in_place
           : in_place < turns_ ? plan.turn_strip(cta_, in_place)
                               : plan.first_rest() + rest_at_;
  }
  __device__ __forceinline__ void set_count() {
    const MoeStreamPlan& plan = kernel_.plan;
    count_ = up_ ? (turns_ + (rest_at_ < plan.rest ? 1 : 0)) * plan.up_panels
                 : plan.owned(cta_) * plan.down_panels;
    if (!up_ && count_ == 0) place_ = places_;  // owns nothing
  }

  const Kernel& kernel_;
  const Lists& lists_;
  int cta_, places_, turns_;
  int rest_at_;  // plan.rest_of(cta, place)
  int place_ = 0, at_ = 0, count_ = 0;
  bool up_;
};

}  // namespace moxie::hopper::stream
