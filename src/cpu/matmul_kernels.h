// The inner loops of `linear` and `moe`, one set per instruction set.
//
// Two ways to multiply, chosen by Phase:
//
//   decode   few activation rows; weights come from memory once and meet each row in a dot product
//            (dot_dense, dot_mxfp4). Work is cut into ranges of weight rows.
//   prefill  many activation rows ("tokens"), packed in groups of kGroup. A panel (some features by
//            k_chunk of the reduction) of weights is decoded into cache, then multiplied with all
//            groups (multiply); sums stay in a tile of float32 between chunks.
//
// The order of every sum is fixed by k alone, so a result depends neither on the other rows of the
// call nor on the number of threads.
//
// MXFP4 weights are decoded to bf16 with the scale folded in, which is exact (mxfp4/block.h); the
// bf16 dot product instructions take subnormal factors, products and sums for zero.
//
// The kernels see pointers and plain numbers only: files for an instruction set must not define
// anything that another file could define too.
#pragma once

#include <cstdint>

#include "cpu/isa.h"

namespace moxie::cpu {

inline constexpr int64_t kGroup = 16;      // tokens side by side in prefill
inline constexpr int64_t kMaxDotRows = 4;  // activation rows that share one reading of weights
inline constexpr int64_t kDepth = 32;      // k is padded with zeros to a multiple of this
inline constexpr int64_t kMaxTaskGroups = 16, kMaxTaskRows = kMaxTaskGroups * kGroup;

// Some features of a weight matrix, and some of k, as the checkpoint has them.
struct PanelSource {
  const void* weights = nullptr;    // bf16 numbers, or MXFP4 codes
  const uint8_t* scales = nullptr;  // null: bf16
  int64_t stride = 0;               // elements (bf16) or blocks (MXFP4) from feature to feature
  int64_t features = 0, k = 0;
  // In a task that takes several of these one after the other: whether this is the first, of which
  // nothing has been fetched yet, and how many features follow it.
  bool is_first = true;
  int64_t following = 0;
};

struct MatmulKernels {
  const char* name;

  // --- decode ---

  // Bytes of an element of a prepared activation row, in its largest form: 2 (bf16), 4 (float32) or
  // 8 (AVX2: float32, and integers beside it).
  int64_t x_element_bytes;
  // More bytes that prepare_mxfp4 writes behind those of k elements; a multiple of 64.
  int64_t x_extra_bytes = 0;
  // One activation row of k bf16 numbers in the order and type that dot_* want, padded to kDepth
  // with zeros; `out` is 64-byte aligned.
  void (*prepare_dense)(const uint16_t* x, int64_t k, void* out);
  void (*prepare_mxfp4)(const uint16_t* x, int64_t k, void* out);
  // z[r * z_stride + f] = sum_k x[r][k] * weight[f][k] for f in [0, n), r in [0, rows).
  // REQUIRES: 1 <= rows <= kMaxDotRows; k % 32 == 0 for dot_mxfp4.
  void (*dot_dense)(const uint16_t* weight, int64_t n, int64_t k, const void* const* x, int rows,
                    float* z, int64_t z_stride);
  void (*dot_mxfp4)(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                    const void* const* x, int rows, float* z, int64_t z_stride);

  // Weight rows of a decode task, for MXFP4; fewer where threads would be left without work.
  int64_t features_per_dot = 64;

  // --- prefill ---

  int64_t panel_element_bytes;  // 2 (bf16) or 4 (float32)
  int64_t feature_tile;         // panels hold a multiple of this many features
  int64_t features_per_task;    // a multiple of feature_tile and of 16; in lookup order 32 or 64 n
  int64_t k_chunk;              // a multiple of kDepth
  // Groups of tokens that a task multiplies at most: so many that they stay in the core's own
  // cache.
  int64_t dense_groups = kMaxTaskGroups, mxfp4_groups = kMaxTaskGroups;

  // MXFP4 panels, and the activations they meet, have the 32 elements of a block in lookup order
  // (mxfp4_lookup_avx512.h).
  bool lookup_order = false;

  // Null: tokens are packed in groups (what follows, up to transpose). Otherwise activations are
  // bf16 rows as they lie, sums are rows too, and none of that is needed:
  //   sums[r * features_per_task + f] = sum_k rows[r][k] * weight[f][k]
  // for r in [0, num_rows), f in [0, source.features); what lies between is not defined. `memory`
  // is rows_memory_bytes of the thread's own, it and sums are 64-byte aligned.
  // REQUIRES: num_rows <= kMaxTaskRows, source.features <= features_per_task, which is a multiple
  // of feature_tile; k % 32 == 0 for MXFP4.
  void (*multiply_rows)(const PanelSource& source, const uint16_t* const* rows, int64_t num_rows,
                        void* memory, float* sums) = nullptr;
  int64_t rows_memory_bytes = 0;

  // Packs up to kGroup rows of k bf16 numbers (rows[t] null: zeros) as pairs along k:
  // out[k' / 2][token] = {x[k'], x[k' + 1]}, k' up to k padded to kDepth. For MXFP4 weights x is in
  // lookup order, where the kernels want it.
  void (*pack_group)(const uint16_t* const* rows, int64_t k, uint32_t* out);
  void (*pack_group_mxfp4)(const uint16_t* const* rows, int64_t k, uint32_t* out);
  // Decodes `features` rows, k elements each, into panel[f * panel_stride + k], with zeros from k
  // up to the next multiple of kDepth. stride: elements, or blocks, from row to row; panel_stride
  // is always k_chunk.
  void (*panel_dense)(const uint16_t* weight, int64_t stride, int64_t features, int64_t k,
                      void* panel, int64_t panel_stride);
  void (*panel_mxfp4)(const uint8_t* codes, const uint8_t* scales, int64_t block_stride,
                      int64_t features, int64_t k, void* panel, int64_t panel_stride);
  // sums[g][f][token] (+)= sum_k panel[f][k] * x[g][k][token] for g in [0, groups); `first` starts
  // the sums at zero. Pairs of group g begin at x + g * x_stride; depth is a multiple of kDepth,
  // features of feature_tile.
  void (*multiply)(const void* panel, int64_t panel_stride, int64_t features, const uint32_t* x,
                   int64_t x_stride, int64_t groups, int64_t depth, float* sums, bool first);
  // The same over all of k, straight from the weights, for kernels that decode while they multiply:
  // sums[g][f][token] with features padded to a multiple of feature_tile, x packed for the kind of
  // weights. Null: panels. (Otherwise a task takes up to kRangesPerTask times features_per_task in
  // turn, because what follows in memory is fetched meanwhile.) REQUIRES: features % 32 == 0 and
  // k % 32 == 0 for MXFP4.
  void (*multiply_weights)(const PanelSource& weights, const uint32_t* x, int64_t x_stride,
                           int64_t groups, float* sums) = nullptr;
  // rows[token * row_stride + f] = sums[f][token] for one group; features % 16 == 0.
  void (*transpose)(const float* sums, int64_t features, float* rows, int64_t row_stride);

  // --- what follows a product ---

  // t = (z[i] + bias[i]) * scale, rounded to bf16 unless out is float32; with residual:
  // t + residual[i], rounded again. bias and residual may be null; out may be residual.
  void (*finish_bf16)(const float* z, const float* bias, float scale, const uint16_t* residual,
                      uint16_t* out, int64_t n);
  void (*finish_f32)(const float* z, const float* bias, float scale, const float* residual,
                     float* out, int64_t n);
  // out[j] = round(g * sigmoid(alpha * g) * (u + 1)), g and u from z[2j] and z[2j + 1] plus bias,
  // clamped as in MoeArgs.
  void (*swiglu)(const float* z, const float* bias, float alpha, float limit, int64_t n,
                 uint16_t* out);
  // The same for one group's sums[f][token], 4 * n features, packed as pairs for the next product:
  // out[i][token] = {a[2i], a[2i + 1]}. In lookup order n is a multiple of 4: the four
  // pairs of 16 features go to out[j], out[j + 4], out[j + 8] and out[j + 12], the next to j + 1,
  // ..
  void (*swiglu_pairs)(const float* sums, const float* bias, float alpha, float limit, int64_t n,
                       uint32_t* out);
  // out = round(residual + round(sum over slots of y[slot * y_stride + i])), in the order of slots.
  void (*combine)(const uint16_t* y, int64_t slots, int64_t y_stride, const uint16_t* residual,
                  uint16_t* out, int64_t n);
};

// The set for an instruction set.
const MatmulKernels& matmul_kernels(Isa isa);

// One set each; only on processors that have the instructions.
const MatmulKernels& matmul_kernels_scalar();
const MatmulKernels& matmul_kernels_avx2();
const MatmulKernels& matmul_kernels_avx512();
const MatmulKernels& matmul_kernels_avx512_bf16();
const MatmulKernels& matmul_kernels_amx();
// AMX's prefill kernel on emulated tiles, everything else scalar: for tests, runs everywhere.
const MatmulKernels& matmul_kernels_amx_emulated();

}  // namespace moxie::cpu
