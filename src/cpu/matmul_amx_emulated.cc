// AMX's prefill on emulated tiles, for tests on machines without AMX.
#include "cpu/matmul_kernels.h"
#include "cpu/matmul_scalar.h"
#include "cpu/mxfp4_tables.h"
#include "cpu/tile_dense.h"
#include "cpu/tile_emulated.h"

namespace moxie::cpu {
namespace {

struct Decode {
  static void mxfp4(const uint8_t* codes, uint8_t scale, uint16_t* out) {
    for (int i = 0; i < 32; ++i)
      out[i] = kMxfp4Bf16.bits[scale][(codes[i / 2] >> (4 * (i & 1))) & 15];
  }
  static void mxfp4_pair(const uint8_t* codes, const uint8_t* scales, uint16_t* first,
                         uint16_t* second) {
    mxfp4(codes, scales[0], first);
    mxfp4(codes + 16, scales[1], second);
  }
  using Mask = int64_t;
  static Mask mask(int64_t count) { return count; }
  static void dense(const uint16_t* weights, Mask count, uint16_t* out) {
    for (int i = 0; i < 32; ++i) out[i] = i < count ? weights[i] : uint16_t{0};
  }
  static void prefetch(const void*) {}
};

}  // namespace

const MatmulKernels& matmul_kernels_amx_emulated() {
  static const MatmulKernels kKernels = [] {
    MatmulKernels kernels = matmul_kernels_scalar();
    kernels.name = "amx_emulated";
    kernels.panel_element_bytes = 2;
    kernels.feature_tile = 16;
    kernels.features_per_task = 64;
    kernels.k_chunk = 0;
    kernels.dense_groups = 8;
    kernels.mxfp4_groups = 12;
    kernels.panel_dense = nullptr;
    kernels.panel_mxfp4 = nullptr;
    kernels.multiply = nullptr;
    kernels.multiply_weights = multiply_weights_with_tiles<EmulatedTiles, Decode>;
    return kernels;
  }();
  return kKernels;
}

}  // namespace moxie::cpu
