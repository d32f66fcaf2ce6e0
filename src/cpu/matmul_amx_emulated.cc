// AMX's prefill kernel on emulated tiles, for tests on machines without AMX.
#include "cpu/matmul_kernels.h"
#include "cpu/matmul_scalar.h"
#include "cpu/mxfp4_tables.h"
#include "cpu/tile_emulated.h"
#include "cpu/tile_multiply.h"
#include "cpu/tile_panel.h"

namespace moxie::cpu {
namespace {

void panel_dense(const uint16_t* weight, int64_t stride, int64_t features, int64_t k, void* panel,
                 int64_t panel_stride) {
  const int64_t padded = (k + kDepth - 1) / kDepth * kDepth;
  for (int64_t f = 0; f < features; ++f) {
    auto* out = static_cast<uint16_t*>(panel);
    for (int64_t i = 0; i < padded; ++i)
      out[tile_panel_offset(f, i / kDepth, panel_stride) + i % kDepth] =
          i < k ? weight[f * stride + i] : uint16_t{0};
  }
}

void panel_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t block_stride,
                 int64_t features, int64_t k, void* panel, int64_t panel_stride) {
  for (int64_t f = 0; f < features; ++f) {
    auto* out = static_cast<uint16_t*>(panel);
    for (int64_t i = 0; i < k; ++i) {
      const uint16_t* table = kMxfp4Bf16.bits[scales[f * block_stride + i / 32]];
      out[tile_panel_offset(f, i / kDepth, panel_stride) + i % kDepth] =
          table[(codes[f * block_stride * 16 + i / 2] >> (4 * (i & 1))) & 15];
    }
  }
}

}  // namespace

const MatmulKernels& matmul_kernels_amx_emulated() {
  static const MatmulKernels kKernels = [] {
    MatmulKernels kernels = matmul_kernels_scalar();
    kernels.name = "amx_emulated";
    kernels.panel_element_bytes = 2;
    kernels.feature_tile = 32;
    kernels.features_per_task = 64;
    kernels.k_chunk = 480;
    kernels.panel_dense = panel_dense;
    kernels.panel_mxfp4 = panel_mxfp4;
    kernels.multiply = multiply_with_tiles<EmulatedTiles>;
    return kernels;
  }();
  return kKernels;
}

}  // namespace moxie::cpu
