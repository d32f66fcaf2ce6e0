// The operations on a Hopper GPU, as the host calls them.
//
// Every run_ function checks its Args (the contract in ops/, then what these kernels can), then the
// current device and the pointers, and only then enqueues on `stream`. It throws Error with one
// sentence: kInvalidArgument, kUnsupported (also: no GPU, another GPU, built without CUDA),
// kDevice if a launch fails. Data is never looked at, so expert ids are never refused: foreign ones
// are skipped. Nothing is allocated, no stream is waited for, no current device changed; after the
// first call for a device every launch may be captured in a graph.
//
// The same call gives the same bits. A row's depend on which kernel the number of rows leads to:
// moe has one up to 4 rows, and one beyond.
//
// Threads: any, on different workspaces. Compiles without CUDA's headers.
#pragma once

#include <cstdint>

#include "ops/grouped_gemm.h"
#include "ops/moe.h"
#include "ops/mxfp4_linear.h"
#include "ops/prepack.h"
#include "ops/quantize_mxfp4.h"
#include "ops/route.h"

struct CUstream_st;

namespace moxie::hopper {

using StreamHandle = CUstream_st*;  // cudaStream_t

inline constexpr int64_t kMaxRows = 65536;
inline constexpr int64_t kMaxExperts = 512;
inline constexpr int64_t kMaxExpertsPerToken = 8;

// Scratch memory on the device, 256-byte aligned. The caller fills it with zeros once, before its
// first use; then it is handed on from call to call, on one stream at a time, and only between
// calls of one operation whose shapes differ in nothing but `rows`.
struct Workspace {
  void* data = nullptr;
  int64_t bytes = 0;
};
inline constexpr int64_t kWorkspaceAlignment = 256;

// Throws Error(kInvalidArgument) unless it is as large and aligned as it must be; `op` is a word of
// the sentence.
void check_workspace(const char* op, const Workspace& workspace, int64_t needed_bytes);

// The sizes that a workspace depends on. Bytes for fewer rows are never more.
struct MoeShape {
  int64_t rows = 0, hidden = 0, inner = 0;
  int64_t experts = 0, experts_per_token = 0;
  int64_t num_experts = 0;  // logits of a row; 0: expert ids are given
  Activations activations = Activations::kBf16;
};
struct GroupedGemmShape {
  int64_t rows = 0, experts = 0, n = 0, k = 0;
};
struct LinearShape {
  int64_t rows = 0, n = 0, k = 0;
};
struct RouteShape {
  int64_t rows = 0, experts = 0, experts_per_token = 0;
};
MoeShape shape_of(const MoeArgs& args);
GroupedGemmShape shape_of(const ::moxie::GroupedGemmArgs& args);
LinearShape shape_of(const Mxfp4LinearArgs& args);
RouteShape shape_of(const RouteArgs& args);
RouteShape shape_of(const RowListsArgs& args);

// Pure. Throw Error for a shape that run_ would refuse.
int64_t workspace_bytes(const MoeShape& shape);
int64_t workspace_bytes(const GroupedGemmShape& shape);
int64_t workspace_bytes(const LinearShape& shape);
int64_t workspace_bytes(const RouteShape& shape);

void run_moe(const MoeArgs& args, const Workspace& workspace, StreamHandle stream);
void run_grouped_gemm(const ::moxie::GroupedGemmArgs& args, const Workspace& workspace,
                      StreamHandle stream);
void run_mxfp4_linear(const Mxfp4LinearArgs& args, const Workspace& workspace, StreamHandle stream);
void run_route(const RouteArgs& args, const Workspace& workspace, StreamHandle stream);
void run_row_lists(const RowListsArgs& args, const Workspace& workspace, StreamHandle stream);
void run_prepack(const ::moxie::PrepackArgs& args, StreamHandle stream);
void run_quantize_mxfp4(const QuantizeMxfp4Args& args, StreamHandle stream);
void run_dequantize_mxfp4(const DequantizeMxfp4Args& args, StreamHandle stream);

}  // namespace moxie::hopper
