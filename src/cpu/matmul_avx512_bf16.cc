// Products in AVX-512 BF16: VDPBF16PS adds the products of 16 pairs to 16 float32 sums.
//
// Work    decode: kChains sums in turn per weight row; a block's 32 codes become one vector of bf16
//         by one lookup in the table of its scale. Dense rows are read in several places of the
//         matrix at once, as one place alone does not keep enough memory reads under way.
//         prefill: 8 features x 48 tokens in 24 accumulators, pairs of weights broadcast against
//         pairs of 16 tokens.
// Needs   AVX-512 F, BW, DQ, VL, BF16
#include "cpu/matmul_avx512_bf16.h"

#include <immintrin.h>

#include "cpu/matmul_avx512.h"
#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_lookup_avx512.h"

namespace moxie::cpu {
namespace {

constexpr int kChains = 4;
constexpr int64_t kAheadBytes = 2048;       // of prefetch: codes
constexpr int64_t kDenseAheadBytes = 1024;  // in each place

__mmask32 lanes_32(int64_t count) { return count >= 32 ? 0xffffffffu : (1u << count) - 1u; }

__m512 dot_pairs(__m512 sums, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
}

template <int kRows>
struct Sums {
  __m512 chains[kRows][kChains];

  void clear() {
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < kChains; ++c) chains[r][c] = _mm512_setzero_ps();
  }
  void add(int chain, __m512i w, const uint16_t* const* x, int64_t at) {
    for (int r = 0; r < kRows; ++r)
      chains[r][chain] = dot_pairs(chains[r][chain], w, _mm512_load_si512(x[r] + at));
  }
  float total(int r) const {
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(chains[r][0], chains[r][1]),
                                              _mm512_add_ps(chains[r][2], chains[r][3])));
  }
};

// The weight rows w, w + step, .. of kPlaces features; their results are z_step apart.
template <int kRows, int kPlaces>
void dot_dense_places(const uint16_t* w, int64_t step, int64_t k, const uint16_t* const* rows,
                      float* z, int64_t z_step, int64_t z_stride) {
  Sums<kRows> sums[kPlaces];
  for (int place = 0; place < kPlaces; ++place) sums[place].clear();
  int64_t i = 0;
  for (; i + 32 * kChains <= k; i += 32 * kChains) {
    for (int place = 0; place < kPlaces; ++place) {
      for (int c = 0; c < kChains; ++c) {
        const uint16_t* at = w + place * step + i + 32 * c;
        _mm_prefetch(reinterpret_cast<const char*>(at) + kDenseAheadBytes, _MM_HINT_T0);
        sums[place].add(c, _mm512_loadu_si512(at), rows, i + 32 * c);
      }
    }
  }
  for (; i < k; i += 32)
    for (int place = 0; place < kPlaces; ++place)
      sums[place].add(0, _mm512_maskz_loadu_epi16(lanes_32(k - i), w + place * step + i), rows, i);
  for (int place = 0; place < kPlaces; ++place)
    for (int r = 0; r < kRows; ++r) z[r * z_stride + place * z_step] = sums[place].total(r);
}

template <int kRows>
void dot_dense_rows(const uint16_t* weight, int64_t n, int64_t k, const void* const* x, float* z,
                    int64_t z_stride) {
  constexpr int kPlaces = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;  // 16 vectors of sums
  const uint16_t* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const uint16_t*>(x[r]);
  const int64_t part = n / kPlaces;
  for (int64_t f = 0; f < part; ++f)
    dot_dense_places<kRows, kPlaces>(weight + f * k, part * k, k, rows, z + f, part, z_stride);
  for (int64_t f = part * kPlaces; f < n; ++f)
    dot_dense_places<kRows, 1>(weight + f * k, 0, k, rows, z + f, 0, z_stride);
}

template <int kRows>
void dot_mxfp4_rows(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                    const void* const* x, float* z, int64_t z_stride) {
  const uint16_t* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const uint16_t*>(x[r]);
  const int64_t blocks = k / 32;
  for (int64_t f = 0; f < n; ++f) {
    const uint8_t* row_codes = codes + f * blocks * 16;
    const uint8_t* row_scales = scales + f * blocks;
    Sums<kRows> sums;
    sums.clear();
    prefetch_scales_ahead(row_scales, blocks);
    int64_t b = 0;
    for (; b + kChains <= blocks; b += kChains) {
      _mm_prefetch(reinterpret_cast<const char*>(row_codes + b * 16) + kAheadBytes, _MM_HINT_T0);
      for (int c = 0; c < kChains; ++c)
        sums.add(c, decode_block(row_codes + (b + c) * 16, row_scales[b + c]), rows, (b + c) * 32);
    }
    for (; b < blocks; ++b)
      sums.add(0, decode_block(row_codes + b * 16, row_scales[b]), rows, b * 32);
    for (int r = 0; r < kRows; ++r) z[r * z_stride + f] = sums.total(r);
  }
}

constexpr int kTile = 8;

// kTile features x kVectors groups of 16 tokens.
template <int kVectors>
void multiply_tile(const uint16_t* a, int64_t a_stride, const uint32_t* x, int64_t x_stride,
                   int64_t depth, float* sums, int64_t sums_stride, bool first) {
  __m512 acc[kTile][kVectors];
  for (int f = 0; f < kTile; ++f)
    for (int v = 0; v < kVectors; ++v)
      acc[f][v] = first ? _mm512_setzero_ps() : _mm512_load_ps(sums + v * sums_stride + f * kGroup);
  for (int64_t p = 0; p < depth / 2; ++p) {
    __m512i pairs[kVectors];
    for (int v = 0; v < kVectors; ++v) pairs[v] = _mm512_load_si512(x + v * x_stride + p * kGroup);
    for (int f = 0; f < kTile; ++f) {
      int32_t weights;
      __builtin_memcpy(&weights, a + f * a_stride + 2 * p, sizeof(weights));
      const __m512i w = _mm512_set1_epi32(weights);
      for (int v = 0; v < kVectors; ++v) acc[f][v] = dot_pairs(acc[f][v], w, pairs[v]);
    }
  }
  for (int f = 0; f < kTile; ++f)
    for (int v = 0; v < kVectors; ++v)
      _mm512_store_ps(sums + v * sums_stride + f * kGroup, acc[f][v]);
}

void multiply(const void* panel, int64_t panel_stride, int64_t features, const uint32_t* x,
              int64_t x_stride, int64_t groups, int64_t depth, float* sums, bool first) {
  const int64_t sums_stride = features * kGroup;
  for (int64_t g = 0; g < groups;) {
    // Four groups as 2 + 2: one alone would leave the multiplier waiting.
    const int64_t left = groups - g;
    const int64_t vectors = left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3;
    const auto tile = vectors == 3   ? multiply_tile<3>
                      : vectors == 2 ? multiply_tile<2>
                                     : multiply_tile<1>;
    for (int64_t f = 0; f < features; f += kTile)
      tile(static_cast<const uint16_t*>(panel) + f * panel_stride, panel_stride, x + g * x_stride,
           x_stride, depth, sums + g * sums_stride + f * kGroup, sums_stride, first);
    g += vectors;
  }
}

}  // namespace

void prepare_avx512_bf16(const uint16_t* x, int64_t k, void* out) {
  for (int64_t i = 0; i < k; i += kDepth)
    _mm512_store_si512(static_cast<uint16_t*>(out) + i,
                       _mm512_maskz_loadu_epi16(lanes_32(k - i), x + i));
}

void prepare_lookup_avx512_bf16(const uint16_t* x, int64_t k, void* out) {
  for (int64_t i = 0; i < k; i += kDepth)
    _mm512_store_si512(static_cast<uint16_t*>(out) + i,
                       to_lookup_order(_mm512_maskz_loadu_epi16(lanes_32(k - i), x + i)));
}

void dot_dense_avx512_bf16(const uint16_t* weight, int64_t n, int64_t k, const void* const* x,
                           int rows, float* z, int64_t z_stride) {
  switch (rows) {
    case 1:
      return dot_dense_rows<1>(weight, n, k, x, z, z_stride);
    case 2:
      return dot_dense_rows<2>(weight, n, k, x, z, z_stride);
    case 3:
      return dot_dense_rows<3>(weight, n, k, x, z, z_stride);
    default:
      return dot_dense_rows<4>(weight, n, k, x, z, z_stride);
  }
}

namespace {

void dot_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
               const void* const* x, int rows, float* z, int64_t z_stride) {
  switch (rows) {
    case 1:
      return dot_mxfp4_rows<1>(codes, scales, n, k, x, z, z_stride);
    case 2:
      return dot_mxfp4_rows<2>(codes, scales, n, k, x, z, z_stride);
    case 3:
      return dot_mxfp4_rows<3>(codes, scales, n, k, x, z, z_stride);
    default:
      return dot_mxfp4_rows<4>(codes, scales, n, k, x, z, z_stride);
  }
}

void panel_dense(const uint16_t* weight, int64_t stride, int64_t features, int64_t k, void* panel,
                 int64_t panel_stride) {
  auto* out = static_cast<uint16_t*>(panel);
  for (int64_t f = 0; f < features; ++f)
    for (int64_t i = 0; i < k; i += kDepth)
      _mm512_storeu_si512(out + f * panel_stride + i,
                          _mm512_maskz_loadu_epi16(lanes_32(k - i), weight + f * stride + i));
}

void panel_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t block_stride,
                 int64_t features, int64_t k, void* panel, int64_t panel_stride) {
  auto* out = static_cast<uint16_t*>(panel);
  for (int64_t f = 0; f < features; ++f) {
    const uint8_t* row_codes = codes + f * block_stride * 16;
    const uint8_t* row_scales = scales + f * block_stride;
    for (int64_t b = 0; b < k / 32; ++b)
      _mm512_storeu_si512(out + f * panel_stride + b * kDepth,
                          decode_block(row_codes + b * 16, row_scales[b]));
  }
}

}  // namespace

const MatmulKernels& matmul_kernels_avx512_bf16() {
  static constexpr MatmulKernels kKernels = {.name = "avx512_bf16",
                                             .x_element_bytes = 2,
                                             .prepare_dense = prepare_avx512_bf16,
                                             .prepare_mxfp4 = prepare_lookup_avx512_bf16,
                                             .dot_dense = dot_dense_avx512_bf16,
                                             .dot_mxfp4 = dot_mxfp4,
                                             .panel_element_bytes = 2,
                                             .feature_tile = kTile,
                                             .features_per_task = 64,
                                             .k_chunk = 288,
                                             .lookup_order = true,
                                             .pack_group = pack_group_avx512,
                                             .pack_group_mxfp4 = pack_group_lookup_avx512,
                                             .panel_dense = panel_dense,
                                             .panel_mxfp4 = panel_mxfp4,
                                             .multiply = multiply,
                                             .transpose = transpose_avx512,
                                             .finish_bf16 = finish_bf16_avx512,
                                             .finish_f32 = finish_f32_avx512,
                                             .swiglu = swiglu_row_avx512,
                                             .swiglu_pairs = swiglu_pairs_lookup_avx512,
                                             .combine = combine_avx512};
  return kKernels;
}

}  // namespace moxie::cpu
