// Products in AVX-512 BF16: VDPBF16PS adds the products of 16 pairs to 16 float32 sums.
//
// Work    decode: kChains sums in turn per weight row. Rows are read in several places of the
// matrix
//         at once, as one place alone does not keep enough memory reads under way; AMD's processors
//         fetch ahead in them by themselves and lose by being told, Intel's gain. MXFP4:
//         matmul_mxfp4_avx512_bf16.cc.
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
constexpr int64_t kDenseAheadBytes = 1024;  // of prefetch in each place, where it helps

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

// Weight rows as bf16 numbers, wherever they come from: vector(i) is elements 32 i .. 32 i + 31 of
// a row (the last of them masked), and prefetch(i) fetches ahead of them.
template <bool kPrefetch>
struct DenseRow {
  const uint16_t* w;
  __m512i vector(int64_t i) const { return _mm512_loadu_si512(w + 32 * i); }
  __m512i last_vector(int64_t i, __mmask32 mask) const {
    return _mm512_maskz_loadu_epi16(mask, w + 32 * i);
  }
  [[gnu::always_inline]] void prefetch(int64_t i) const {
    if constexpr (kPrefetch)
      for (int64_t line = 0; line < kChains; ++line)
        _mm_prefetch(reinterpret_cast<const char*>(w + 32 * (i + line)) + kDenseAheadBytes,
                     _MM_HINT_T0);
  }
  // Places, to keep enough reads under way, and rows at once: 16 vectors of sums. More rows come
  // again over the same weights, which are in L1 by then.
  static constexpr int places(int rows) { return rows == 1 ? 4 : 2; }
  static constexpr int kMostRows = 2;
};
// kPlaces weight rows; their results are z_step apart.
template <int kRows, int kPlaces, class Row>
void dot_places(const Row* w, int64_t k, const uint16_t* const* rows, float* z, int64_t z_step,
                int64_t z_stride) {
  Sums<kRows> sums[kPlaces];
  for (int place = 0; place < kPlaces; ++place) sums[place].clear();
  int64_t i = 0;
  for (; 32 * (i + kChains) <= k; i += kChains) {
    for (int place = 0; place < kPlaces; ++place) {
      w[place].prefetch(i);
      for (int c = 0; c < kChains; ++c)
        sums[place].add(c, w[place].vector(i + c), rows, 32 * (i + c));
    }
  }
  for (; 32 * i < k; ++i)
    for (int place = 0; place < kPlaces; ++place)
      sums[place].add(0, w[place].last_vector(i, lanes_32(k - 32 * i)), rows, 32 * i);
  for (int place = 0; place < kPlaces; ++place)
    for (int r = 0; r < kRows; ++r) z[r * z_stride + place * z_step] = sums[place].total(r);
}

template <int kRows, int kPlaces, class Row>
void dot_places_of_all(const Row* w, int64_t k, const uint16_t* const* rows, float* z,
                       int64_t z_step, int64_t z_stride) {
  if constexpr (kRows > Row::kMostRows) {
    dot_places<Row::kMostRows, kPlaces>(w, k, rows, z, z_step, z_stride);
    dot_places_of_all<kRows - Row::kMostRows, kPlaces>(
        w, k, rows + Row::kMostRows, z + Row::kMostRows * z_stride, z_step, z_stride);
  } else {
    dot_places<kRows, kPlaces>(w, k, rows, z, z_step, z_stride);
  }
}

// row(f) is the weight row of feature f.
template <int kRows, class RowOf>
void dot_rows(int64_t n, int64_t k, const void* const* x, float* z, int64_t z_stride,
              const RowOf& row) {
  using Row = decltype(row(0));
  constexpr int kPlaces = Row::places(kRows);
  const uint16_t* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const uint16_t*>(x[r]);
  const int64_t part = n / kPlaces;
  for (int64_t f = 0; f < part; ++f) {
    Row places[kPlaces];
    for (int place = 0; place < kPlaces; ++place) places[place] = row(place * part + f);
    dot_places_of_all<kRows, kPlaces>(places, k, rows, z + f, part, z_stride);
  }
  for (int64_t f = part * kPlaces; f < n; ++f) {
    const Row last = row(f);
    dot_places_of_all<kRows, 1>(&last, k, rows, z + f, 0, z_stride);
  }
}

template <class RowOf>
void dot(int64_t n, int64_t k, const void* const* x, int rows, float* z, int64_t z_stride,
         const RowOf& row) {
  switch (rows) {
    case 1:
      return dot_rows<1>(n, k, x, z, z_stride, row);
    case 2:
      return dot_rows<2>(n, k, x, z, z_stride, row);
    case 3:
      return dot_rows<3>(n, k, x, z, z_stride, row);
    default:
      return dot_rows<4>(n, k, x, z, z_stride, row);
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

void dot_dense_avx512_bf16(const uint16_t* weight, int64_t n, int64_t k, const void* const* x,
                           int rows, float* z, int64_t z_stride) {
  dot(n, k, x, rows, z, z_stride, [=](int64_t f) { return DenseRow<false>{weight + f * k}; });
}

void dot_dense_prefetching_avx512_bf16(const uint16_t* weight, int64_t n, int64_t k,
                                       const void* const* x, int rows, float* z, int64_t z_stride) {
  dot(n, k, x, rows, z, z_stride, [=](int64_t f) { return DenseRow<true>{weight + f * k}; });
}

namespace {

void panel_dense(const uint16_t* weight, int64_t stride, int64_t features, int64_t k, void* panel,
                 int64_t panel_stride) {
  auto* out = static_cast<uint16_t*>(panel);
  for (int64_t f = 0; f < features; ++f) {
    const uint16_t* row = weight + f * stride;
    prefetch_next_panel(row, k * 2);
    for (int64_t i = 0; i < k; i += kDepth)
      _mm512_storeu_si512(out + f * panel_stride + i,
                          _mm512_maskz_loadu_epi16(lanes_32(k - i), row + i));
  }
}

void panel_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t block_stride,
                 int64_t features, int64_t k, void* panel, int64_t panel_stride) {
  auto* out = static_cast<uint16_t*>(panel);
  for (int64_t f = 0; f < features; ++f) {
    const uint8_t* row_codes = codes + f * block_stride * 16;
    const uint8_t* row_scales = scales + f * block_stride;
    prefetch_next_panel(row_codes, k / 2);
    for (int64_t b = 0; b < k / 32; ++b)
      _mm512_storeu_si512(out + f * panel_stride + b * kDepth,
                          decode_block(row_codes + b * 16, row_scales[b]));
  }
}

}  // namespace

const MatmulKernels& matmul_kernels_avx512_bf16() {
  static constexpr MatmulKernels kKernels = {.name = "avx512_bf16",
                                             .x_element_bytes = 2,
                                             .x_extra_bytes = kMxfp4ExtraBytes,
                                             .prepare_dense = prepare_avx512_bf16,
                                             .prepare_mxfp4 = prepare_mxfp4_avx512_bf16,
                                             .dot_dense = dot_dense_avx512_bf16,
                                             .dot_mxfp4 = dot_mxfp4_avx512_bf16,
                                             .features_per_dot = 192,
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
