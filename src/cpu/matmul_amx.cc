// Prefill's products on AMX tiles (tile_strips.h, tile_dense.h). Decode has no use for them: dense
// rows wait for memory with VDPBF16PS too, and MXFP4 is faster looked up as float32 and multiplied
// at once.
#include "cpu/matmul_avx512.h"
#include "cpu/matmul_avx512_bf16.h"
#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_lookup_avx512.h"
#include "cpu/tile_amx.h"
#include "cpu/tile_dense.h"

namespace moxie::cpu {
namespace {

struct Decode {
  [[gnu::always_inline]] static void mxfp4(const uint8_t* codes, uint8_t scale, uint16_t* out) {
    _mm512_store_si512(out, decode_block(codes, scale));
  }
  // Loading binds: both scales are one load.
  [[gnu::always_inline]] static void mxfp4_pair(const uint8_t* codes, const uint8_t* scales,
                                                uint16_t* first, uint16_t* second) {
    uint32_t both = 0;
    __builtin_memcpy(&both, scales, 2);
    mxfp4(codes, static_cast<uint8_t>(both), first);
    mxfp4(codes + 16, static_cast<uint8_t>(both >> 8), second);
  }
  using Mask = __mmask32;
  [[gnu::always_inline]] static Mask mask(int64_t count) {
    return count >= 32 ? 0xffffffffu : count <= 0 ? 0 : (1u << count) - 1u;
  }
  [[gnu::always_inline]] static void dense(const uint16_t* weights, Mask mask, uint16_t* out) {
    _mm512_store_si512(out, _mm512_maskz_loadu_epi16(mask, weights));
  }
  [[gnu::always_inline]] static void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
  }
};

}  // namespace

const MatmulKernels& matmul_kernels_amx() {
  static constexpr MatmulKernels kKernels = {
      .name = "amx",
      .x_element_bytes = 4,
      .prepare_dense = prepare_avx512_bf16,
      .prepare_mxfp4 = prepare_avx512,
      .dot_dense = dot_dense_prefetching_avx512_bf16,
      .dot_mxfp4 = dot_mxfp4_avx512,
      .features_per_dot = 256,
      .panel_element_bytes = 2,
      .feature_tile = 16,
      .features_per_task = 64,
      .k_chunk = 0,
      .dense_groups = 8,
      .mxfp4_groups = 12,
      .lookup_order = true,
      .pack_group = pack_group_avx512,
      .pack_group_mxfp4 = pack_group_lookup_avx512,
      .panel_dense = nullptr,
      .panel_mxfp4 = nullptr,
      .multiply = nullptr,
      .multiply_weights = multiply_weights_with_tiles<AmxTiles, Decode>,
      .transpose = transpose_avx512,
      .finish_bf16 = finish_bf16_avx512,
      .finish_f32 = finish_f32_avx512,
      .swiglu = swiglu_row_avx512,
      .swiglu_pairs = swiglu_pairs_lookup_avx512,
      .combine = combine_avx512};
  return kKernels;
}

}  // namespace moxie::cpu
