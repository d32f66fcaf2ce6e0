// The experts block for few rows on Hopper, in one launch: routing, both products, the sum over a
// row's experts.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "base/bf16.h"
#include "hopper/moe_grouped.h"

namespace moxie::hopper {

// Which CTA takes which strips (16 rows of a matrix). Of the second product a CTA owns outputs, for
// all experts, so that it can add them up: `owned_min` strips, from CTA `first_with_more` on one
// more. Of the first product every CTA takes strips of every expert, so that experts end one after
// another: in each of `turns_all` turns every CTA gets one, in each of `turns_some` more those
// before `first_with_more`; the `rest`, fewer than CTAs, go to others for each expert. So all have
// about the same bytes.
struct MoeStreamPlan {
  int ctas = 0, owned_min = 0, first_with_more = 0, turns_all = 0, turns_some = 0, rest = 0;
  int up_strips = 0, up_panels = 0, down_strips = 0, down_panels = 0;  // of an expert's matrices

  MOXIE_HOST_DEVICE constexpr int owned(int cta) const {
    return owned_min + (cta >= first_with_more ? 1 : 0);
  }
  MOXIE_HOST_DEVICE constexpr int first_owned(int cta) const {
    const int more = cta - first_with_more;
    return cta * owned_min + (more > 0 ? more : 0);
  }
  MOXIE_HOST_DEVICE constexpr int turns(int cta) const {
    return turns_all + (cta < first_with_more ? turns_some : 0);
  }
  MOXIE_HOST_DEVICE constexpr int turn_strip(int cta, int turn) const {
    return turn < turns_all ? turn * ctas + cta
                            : turns_all * ctas + (turn - turns_all) * first_with_more + cta;
  }
  MOXIE_HOST_DEVICE constexpr int first_rest() const { return up_strips - rest; }
  // Which of the rest of the place-th expert a CTA has, if it is less than `rest`.
  MOXIE_HOST_DEVICE constexpr int rest_of(int cta, int place) const {
    const int at = (cta - place * rest) % ctas;
    return at < 0 ? at + ctas : at;
  }
};
MoeStreamPlan make_moe_stream_plan(const MoeSizes& sizes, int ctas);

struct MoeStreamConfig {
  MoeStreamPlan plan;
  int warps = 0, slots = 0;  // math warps; slots of all of them for panels of strips
  int inner_rows = 0;        // in shared memory at once, of values between the products
  int shared_bytes = 0;
};
// What a caller may want otherwise; 0: as it is best.
struct MoeStreamOptions {
  int warps = 0, slots = 0, inner_rows = 0;
};

inline constexpr int kMoeStreamMaxRows = 8, kMoeStreamMaxEntries = 32;

// rows <= kMoeStreamMaxRows, rows * experts_per_token <= kMoeStreamMaxEntries, and shared memory
// for all of it.
bool supports_moe_stream(const MoeSizes& sizes, int num_sms);
// Whether values between the products stay below 2^62.
bool supports_moe_stream_swiglu(float alpha, float limit);
// slots == 0: there is no such configuration.
MoeStreamConfig select_moe_stream_config(const MoeSizes& sizes, int num_sms,
                                         const MoeStreamOptions& options = {});
std::string to_string(const MoeStreamConfig& config);

// The first moe_stream_state_bytes() of the workspace, the same for all rows, are zero before the
// first launch and again after each; the rest need not be initialised.
int64_t moe_stream_state_bytes();
int64_t moe_stream_workspace_bytes(const MoeSizes& sizes);

// For the current device; once before the first launch, not while a stream is being captured.
cudaError_t prepare_moe_stream();

// Numerics as MoeGroupedArgs, but sums over k: of each 576 of k the blocks of 32 in four sums, by
// their number modulo 4, then these, then those of all 576 in order; so the bits differ from
// launch_moe_grouped's. Values below 2^-59 of the power of two in x, or in a row that has one of
// 2^63 and more below 2^-122 of that, lose bits. REQUIRES supports_moe_stream,
// supports_moe_stream_swiglu and prepare_moe_stream.
cudaError_t launch_moe_stream(const MoeGroupedArgs& args, const MoeStreamConfig& config,
                              void* workspace, cudaStream_t stream);

}  // namespace moxie::hopper
