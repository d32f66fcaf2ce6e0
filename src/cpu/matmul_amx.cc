// Prefill products on AMX tiles (tile_multiply.h). Decode has no use for tiles: dense weights go
// through VDPBF16PS, and MXFP4 through float32, because on the processors that have AMX VDPBF16PS
// runs at half the speed of float32 multiply-adds, which shows where decoding is the limit.
#include "cpu/matmul_avx512.h"
#include "cpu/matmul_avx512_bf16.h"
#include "cpu/matmul_kernels.h"
#include "cpu/tile_amx.h"
#include "cpu/tile_multiply.h"

namespace moxie::cpu {

const MatmulKernels& matmul_kernels_amx() {
  static constexpr MatmulKernels kKernels = {.name = "amx",
                                             .x_element_bytes = 4,
                                             .prepare_dense = prepare_avx512_bf16,
                                             .prepare_mxfp4 = prepare_avx512,
                                             .dot_dense = dot_dense_avx512_bf16,
                                             .dot_mxfp4 = dot_mxfp4_avx512,
                                             .panel_element_bytes = 2,
                                             .feature_tile = 32,
                                             .features_per_task = 64,
                                             .k_chunk = 3072,
                                             .pack_group = pack_group_avx512,
                                             .panel_dense = tile_panel_dense_avx512_bf16,
                                             .panel_mxfp4 = tile_panel_mxfp4_avx512_bf16,
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
