// Prefill products on AMX tiles (tile_multiply.h); decode is that of AVX-512 BF16.
#include <immintrin.h>

#include "cpu/matmul_avx512.h"
#include "cpu/matmul_avx512_bf16.h"
#include "cpu/matmul_kernels.h"
#include "cpu/tile_multiply.h"

namespace moxie::cpu {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);
constexpr TileConfig kConfig;

// The intrinsics want literal tile numbers.
struct AmxTiles {
  void configure() { _tile_loadconfig(&kConfig); }
  void release() { _tile_release(); }

  template <int kTile>
  void zero() {
    if constexpr (kTile == 0) _tile_zero(0);
    if constexpr (kTile == 1) _tile_zero(1);
    if constexpr (kTile == 2) _tile_zero(2);
    if constexpr (kTile == 3) _tile_zero(3);
  }
  template <int kTile>
  void load(const void* p, int64_t stride) {
    if constexpr (kTile == 0) _tile_loadd(0, p, stride);
    if constexpr (kTile == 1) _tile_loadd(1, p, stride);
    if constexpr (kTile == 2) _tile_loadd(2, p, stride);
    if constexpr (kTile == 3) _tile_loadd(3, p, stride);
    if constexpr (kTile == 4) _tile_loadd(4, p, stride);
    if constexpr (kTile == 5) _tile_loadd(5, p, stride);
    if constexpr (kTile == 6) _tile_loadd(6, p, stride);
    if constexpr (kTile == 7) _tile_loadd(7, p, stride);
  }
  template <int kTile>
  void store(void* p, int64_t stride) {
    if constexpr (kTile == 0) _tile_stored(0, p, stride);
    if constexpr (kTile == 1) _tile_stored(1, p, stride);
    if constexpr (kTile == 2) _tile_stored(2, p, stride);
    if constexpr (kTile == 3) _tile_stored(3, p, stride);
  }
  template <int kSums>
  void dot() {
    if constexpr (kSums == 0) _tile_dpbf16ps(0, 4, 6);
    if constexpr (kSums == 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kSums == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kSums == 3) _tile_dpbf16ps(3, 5, 7);
  }
};

}  // namespace

const MatmulKernels& matmul_kernels_amx() {
  static constexpr MatmulKernels kKernels = {.name = "amx",
                                             .x_element_bytes = 2,
                                             .prepare_dense = prepare_avx512_bf16,
                                             .prepare_mxfp4 = prepare_avx512_bf16,
                                             .dot_dense = dot_dense_avx512_bf16,
                                             .dot_mxfp4 = dot_mxfp4_avx512_bf16,
                                             .panel_element_bytes = 2,
                                             .feature_tile = 32,
                                             .features_per_task = 256,
                                             .k_chunk = 480,
                                             .dense_in_place = false,
                                             .pack_group = pack_group_avx512,
                                             .panel_dense = panel_dense_avx512_bf16,
                                             .panel_mxfp4 = panel_mxfp4_avx512_bf16,
                                             .multiply = multiply_with_tiles<AmxTiles>,
                                             .transpose = transpose_avx512,
                                             .finish_bf16 = finish_bf16_avx512,
                                             .finish_f32 = finish_f32_avx512,
                                             .swiglu = swiglu_row_avx512,
                                             .swiglu_pairs = swiglu_pairs_avx512,
                                             .combine = combine_avx512};
  return kKernels;
}

}  // namespace moxie::cpu
