// What the warps of moe_stream.cu share: sizes, lists, and where things lie in shared memory.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "hopper/moe_stream.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper::stream {

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

}  // namespace moxie::hopper::stream
