// What the warps of moe_stream.cu share: sizes, lists, and where things lie in shared memory.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "hopper/moe_stream.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper::stream {

constexpr unsigned kAll = 0xffffffffu;
// Besides those that multiply: one asks for weights, one fetches inner rows, one stores them.
constexpr int kMaxWarps = 16, kOtherWarps = 3, kMaxThreads = (kMaxWarps + kOtherWarps) * 32;
constexpr int kMaxSlots = 32, kMaxCtas = 256;
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
static_assert(kMaxEntries <= 32 && kMaxSlots <= 32, "a lane an entry, a lane a slot");

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
  int first_is_mine;          // this CTA does its part of the first product, nobody else
  int expert[kMaxPlaces];     // among the local ones
  uint8_t begin[kMaxPlaces];  // in `entry`
  uint8_t count[kMaxPlaces];
  // Of place after place:
  uint8_t entry[kMaxEntries], row[kMaxEntries];
  uint8_t inner_row[kMaxEntries];  // in shared memory
  uint8_t position[kMaxEntries];   // [entry] in this order
  uint8_t place[kMaxEntries];      // [entry]
  int local[kMaxEntries];          // [entry] local expert, or -1
  float weight[kMaxEntries];       // [entry]
  // Largest exponents of rows that kScaleExponent is too much for, or 0; and whether there are any.
  int large[kMoeStreamMaxRows + 1];
};

// Dynamic shared memory, in this order after the slots.
struct Places {
  int x, x_pitch, inner, inner_pitch;
  int zeros;      // a panel of a row
  int sums;       // [place's begin][strip of the CTA][panel][column of the place][16]
  int up_bias;    // [place][strip of the CTA][16]
  int down_bias;  // [place][owned row]
  int units;      // all of the CTA's, and some that are none
  int lists;
  int barriers;  // of slots and places
  int up_done;   // barriers of [place][strip of the CTA]
  int end;
  int place_sums;  // of an entry, in strips of sums
  int up_strips;   // of a place that a CTA can have
  int num_units;   // in the list
};

struct Kernel {
  MoeGroupedArgs args;
  MoeStreamPlan plan;
  Places at;
  int warps, slots, inner_rows;
  uint32_t one_over_up_panels, one_over_down_panels;  // times 2^16, rounded up
  uint32_t two_to_23;   // where the compiler cannot see it: a multiplication, not a shift
  uint32_t* stored;     // [place] strips of the first product
  uint32_t* claims;     // [cta] its part of the first product is somebody's
  uint32_t* ctas_done;  // that wait for no more of these
  bf16* inner;          // [entry in the lists' order, inner], times 2^kScaleExponent
};

// A panel of a strip, as warps find it in shared memory: a few instructions a unit, where working
// it out takes a hundred.
struct alignas(16) Unit {
  uint32_t begin;  // in all experts' matrices, in blocks of 16 rows
  uint16_t sums;   // where its sums are kept, in 16
  uint16_t strip;  // of the first product: of the CTA's strips of all places
  uint8_t blocks;  // in k; 0: there is no such unit
  uint8_t up, place, panel;
  uint8_t first_entry, entries;  // of the place
};
static_assert(sizeof(Unit) == 16);

struct Shared {
  unsigned char* base;
  const Kernel& kernel;
  template <class T>
  __device__ T* at(int offset) const {
    return reinterpret_cast<T*>(base + offset);
  }
  __device__ unsigned char* slot(int slot) const { return base + slot * kSlotBytes; }
  __device__ Lists& lists() const { return *at<Lists>(kernel.at.lists); }
  __device__ uint64_t* full() const { return at<uint64_t>(kernel.at.barriers); }
  __device__ uint64_t* empty() const { return full() + kMaxSlots; }
  __device__ uint64_t* inner_full() const { return empty() + kMaxSlots; }
  __device__ uint64_t* inner_empty() const { return inner_full() + kMaxPlaces; }
  __device__ uint64_t* bias_full() const { return inner_empty() + kMaxPlaces; }
  __device__ Unit* units() const { return at<Unit>(kernel.at.units); }
  __device__ uint64_t* up_done() const { return at<uint64_t>(kernel.at.up_done); }
};
constexpr int kFixedBarriers = 2 * kMaxSlots + 2 * kMaxPlaces + 1;  // before up_done

}  // namespace moxie::hopper::stream
