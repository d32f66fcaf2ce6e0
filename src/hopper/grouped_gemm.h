// One or two MXFP4 products over rows grouped by expert on Hopper: see the head of grouped_gemm.cu.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "base/bf16.h"
#include "ops/moe.h"

namespace moxie::hopper {

// Rows of one expert that a CTA multiplies together: positions begin .. begin + rows of the list of
// rows sorted by expert.
struct RowTile {
  int32_t expert = 0, begin = 0, rows = 0;
};
// An expert's `rows` in as few tiles of at most tile_rows as do: how many rows each of them has,
// but the last, so that they are as equal as multiples of row_step allow.
MOXIE_HOST_DEVICE constexpr int even_tile_rows(int rows, int tile_rows, int row_step) {
  if (rows <= 0) return tile_rows;
  const int tiles = (rows + tile_rows - 1) / tile_rows;
  const int each = ((rows + tiles - 1) / tiles + row_step - 1) / row_step * row_step;
  return each < tile_rows ? each : tile_rows;
}

// For every position p of the list, with e its expert, s = sources[p] and z in float32:
//   z[f]      = sum_i x[gather ? s / sources_per_row : p, i] * weight[e][f, i]  + bias[e, f]
//   plain     out[q, f] = round(z[f] * row_weights[s]), q = scatter ? s : p; without row_weights
//             round(z[f]); with residual round(residual[q, f] + that)
//   swiglu    out[q, j] = round(g * sigmoid(alpha * g) * (u + 1)),
//             g = min(z[2j], limit), u = clamp(z[2j + 1], -limit, limit)
//
//   x            rows of k bf16, 16-byte aligned
//   codes        [experts, n, k] prepacked (mxfp4/weight_layout.h), 16-byte aligned
//   scales       [experts, n, k] prepacked, 16-byte aligned; 0 .. 254 exact, 255 gives NaN
//   bias         [experts, n]   float32, or null
//   row_weights  [sources]      float32, or null; not with swiglu
//   residual     rows of n bf16, 16-byte aligned, or null; not with swiglu
//   out          rows of n (swiglu: n / 2) bf16, 16-byte aligned
//
// Error  |z - exact| <= (k + 16) * 2^-23 * sum|x||w| + 2^-23 * |bias|: one chain of sums in the
//        order of k, whatever the batch
//
// With rows in e4m3 (is_fp8(GroupedGemmConfig::shape)), see sm90_fp8_mxfp4_grouped_gemm: x
// and a first product's out are bytes of e4m3, each 32 of a row in the order of fp8_position()
// (device/decode_fp8.cuh), 16-byte aligned; what x stands for is x times x_factors[row of x], of a
// first product, or times x_factor. A first product with swiglu rounds out_factor * (...) to out.
struct GroupedProduct {
  const void* x = nullptr;
  const uint8_t *codes = nullptr, *scales = nullptr;
  const float *bias = nullptr, *row_weights = nullptr;
  const bf16* residual = nullptr;
  void* out = nullptr;
  const float* x_factors = nullptr;  // [rows of x], or null
  float x_factor = 1, out_factor = 1;
  int64_t x_stride = 0, residual_stride = 0, out_stride = 0;  // elements
  int n = 0, k = 0;
  bool swiglu = false, gather = false, scatter = false;
};

// The second product, if there is one, begins with a row tile when the first has finished it; its x
// is the first one's out.
struct GroupedGemmArgs {
  GroupedProduct product[2];
  int products = 1;
  const RowTile* row_tiles = nullptr;      // on the device; null: `rows` rows of expert 0
  const int32_t* num_row_tiles = nullptr;  // on the device
  int rows = 0;
  const int32_t* sources = nullptr;  // null: s = p
  int sources_per_row = 1;
  float alpha = 1.702f, limit = 7.0f;
  // One, zero before every launch: CTAs draw from it. Null: work is dealt in turn; one product
  // only.
  uint32_t* tickets = nullptr;
  // [row tiles], zero before every launch with two products.
  uint32_t* finished = nullptr;
  // With rows in e4m3, or null: grows by one for each row tile and 64 features that were multiplied
  // in bf16 because scales of a row within 576 of k lie more than 26 apart.
  uint64_t* num_wide_tiles = nullptr;
};

// How a CTA's math warps share a tile; grouped_gemm_shared.cuh says what each means.
enum class GroupedGemmTiles : uint8_t {
  kEightWarps,   // 256 features, up to 32 rows; mma.sync
  kFourGroups,   // 256 features, up to 32 rows; wgmma, as all below
  kThreeGroups,  // 192 features, up to 48 rows
  kMoreRows,     // 192 features, up to 96 rows
  kManyRows,     // 192 features, up to 192 rows
  // With rows in e4m3, from here on.
  kFp8OneTile,    // 192 features, up to 64 rows
  kFp8ManyRows,   // 192 features, up to 192 rows
  kFp8TwoChains,  // 128 features, up to 320 rows
};
constexpr bool is_fp8(GroupedGemmTiles shape) { return shape >= GroupedGemmTiles::kFp8OneTile; }

struct GroupedGemmConfig {
  GroupedGemmTiles shape = GroupedGemmTiles::kManyRows;
  int tile_rows = 0;   // at most, of a RowTile
  int row_step = 1;    // of even_tile_rows()
  int x_stages = 0;    // 576 of k; kMoreRows and in e4m3: 192, kManyRows: 64
  int code_slots = 0;  // 576 of k; for many rows 192; per tile of 64 features
  int ctas = 0;
  int shared_bytes = 0;
};

// Whether launch_grouped_gemm can do it: n % 16 == 0, k % 32 == 0, n and k positive.
bool supports_grouped_gemm(int n, int k);
// For `experts` experts of `rows_per_expert` rows each on average; depths of the products, the
// second 0 where there is one. REQUIRES supports_grouped_gemm.
GroupedGemmConfig select_grouped_gemm_config(double rows_per_expert, double experts, int k,
                                             int second_k, int num_sms,
                                             Activations activations = Activations::kBf16);
// With the shared memory divided for a shape and tile_rows of at most what the shape takes.
GroupedGemmConfig grouped_gemm_config(GroupedGemmTiles shape, int tile_rows, int k, int second_k,
                                      int num_sms);
std::string to_string(const GroupedGemmConfig& config);

// Asks the driver once per process and device for the shared memory that the kernels use.
cudaError_t prepare_grouped_gemm();
// REQUIRES supports_grouped_gemm of each product, prepare_grouped_gemm, and no RowTile of more than
// config.tile_rows rows.
cudaError_t launch_grouped_gemm(const GroupedGemmArgs& args, const GroupedGemmConfig& config,
                                cudaStream_t stream);

// What these stand on, for rows in e4m3 (grouped_gemm_fp8.cu).
int grouped_gemm_fp8_shared_bytes(const GroupedGemmConfig& config);
int grouped_gemm_fp8_features(const GroupedGemmConfig& config);  // of a tile
cudaError_t prepare_grouped_gemm_fp8();
cudaError_t launch_grouped_gemm_fp8(const GroupedGemmArgs& args, const GroupedGemmConfig& config,
                                    cudaStream_t stream);

}  // namespace moxie::hopper
