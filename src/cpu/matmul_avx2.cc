// Products in AVX2 with fused multiply-adds: everything is widened to float32, but for decode's
// MXFP4, which has a file of its own.
//
// Work    decode: several weight rows at a time, in two sums each.
//         prefill: 6 features x 16 tokens in 12 accumulators; two vectors of tokens, a weight and
//         a mask fill the other four registers. (8 would be enough for two multiplications a cycle
//         with a latency of four, if nothing ever came late.)
// Needs   AVX2, FMA
#include "cpu/matmul_avx2.h"

#include <immintrin.h>

#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_tables.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kAheadBytes = 512;  // of prefetch, in each place of a dense matrix

int64_t padded(int64_t k) { return (k + kDepth - 1) / kDepth * kDepth; }

__m256 widen_low(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
__m256 widen_high(__m256i pairs) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

float reduce(__m256 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

float widen(uint16_t bits) { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }

void prepare_dense(const uint16_t* x, int64_t k, void* out) {
  float* values = static_cast<float*>(out);
  for (int64_t i = 0; i < padded(k); i += 16)
    for (int j = 0; j < 8; ++j)
      for (int odd = 0; odd < 2; ++odd) {
        const int64_t from = i + 2 * j + odd;
        values[i + 8 * odd + j] = from < k ? widen(x[from]) : 0.0f;
      }
}

// sum += a * b. As an intrinsic g++ 12 would put some sums where their factor was, and then move
// and store them in every step.
void multiply_add(__m256& sum, __m256 a, __m256 b) {
  asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
}

// Keeps g++ 12 from loading it again for every use.
__m256 load_once(const float* p) {
  __m256 x = _mm256_load_ps(p);
  asm("" : "+x"(x));
  return x;
}

// kWeights weight rows, which are read side by side, with kRows activation rows. Four pairs of them
// at most: their two sums each fill half of the registers.
template <int kWeights, int kRows>
struct DotDense {
  const uint16_t* weights[kWeights];
  const float* x[kRows];
  __m256 even[kWeights][kRows], odd[kWeights][kRows];

  // 16 elements; those of weight row w from w + w_offset on.
  void add(const uint16_t* const* w, int64_t w_offset, int64_t x_offset) {
    __m256 x_even[kRows], x_odd[kRows];
    for (int r = 0; r < kRows; ++r) {
      x_even[r] = load_once(x[r] + x_offset);
      x_odd[r] = load_once(x[r] + x_offset + 8);
    }
    for (int i = 0; i < kWeights; ++i) {
      const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w[i] + w_offset));
      const __m256 low = widen_low(pairs), high = widen_high(pairs);
      for (int r = 0; r < kRows; ++r) {
        multiply_add(even[i][r], low, x_even[r]);
        multiply_add(odd[i][r], high, x_odd[r]);
      }
    }
  }
  // z[r * z_stride + i * w_stride]
  void run(int64_t k, float* z, int64_t z_stride, int64_t w_stride) {
    for (int i = 0; i < kWeights; ++i)
      for (int r = 0; r < kRows; ++r) even[i][r] = odd[i][r] = _mm256_setzero_ps();
    int64_t at = 0;
    for (; at + 16 <= k; at += 16) {
      if (at % 32 == 0) {
        for (int i = 0; i < kWeights; ++i)
          _mm_prefetch(reinterpret_cast<const char*>(weights[i] + at) + kAheadBytes, _MM_HINT_T0);
      }
      add(weights, at, at);
    }
    if (at < k) {
      uint16_t rest[kWeights][16] = {};
      const uint16_t* rests[kWeights];
      for (int i = 0; i < kWeights; ++i) {
        for (int64_t j = at; j < k; ++j) rest[i][j - at] = weights[i][j];
        rests[i] = rest[i];
      }
      add(rests, 0, at);
    }
    for (int i = 0; i < kWeights; ++i)
      for (int r = 0; r < kRows; ++r)
        z[r * z_stride + i * w_stride] = reduce(_mm256_add_ps(even[i][r], odd[i][r]));
  }
};

// Rows f, f + step, .. of the weights.
template <int kWeights, int kRows>
void dot_dense_rows(const uint16_t* weight, int64_t step, int64_t k, const void* const* x, float* z,
                    int64_t z_stride) {
  DotDense<kWeights, kRows> dot;
  for (int i = 0; i < kWeights; ++i) dot.weights[i] = weight + i * step * k;
  for (int r = 0; r < kRows; ++r) dot.x[r] = static_cast<const float*>(x[r]);
  dot.run(k, z, z_stride, step);
}

// One stream of reading does not use the memory fully, so for one activation row weights are read
// in four places at once, for a pair of them in two. More than a pair would not fit into L1: for
// the next pair weights come from L2.
void dot_dense(const uint16_t* weight, int64_t n, int64_t k, const void* const* x, int rows,
               float* z, int64_t z_stride) {
  for (int r = 0; r < rows; r += 2) {
    float* out = z + r * z_stride;
    const int64_t places = r + 2 <= rows ? 2 : 4, step = n / places;
    for (int64_t f = 0; f < step; ++f) {
      if (places == 2)
        dot_dense_rows<2, 2>(weight + f * k, step, k, x + r, out + f, z_stride);
      else
        dot_dense_rows<4, 1>(weight + f * k, step, k, x + r, out + f, z_stride);
    }
    for (int64_t f = step * places; f < n; ++f) {
      if (places == 2)
        dot_dense_rows<1, 2>(weight + f * k, 0, k, x + r, out + f, z_stride);
      else
        dot_dense_rows<1, 1>(weight + f * k, 0, k, x + r, out + f, z_stride);
    }
  }
}

// A panel takes a few lines of each row, too few for the processor to fetch ahead by itself: the
// lines that follow are those of the next panel, which is filled when this one is multiplied.
[[gnu::always_inline]] inline void prefetch_next(const void* row, int64_t bytes) {
  const char* next = static_cast<const char*>(row) + bytes;
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
}

void panel_dense(const uint16_t* weight, int64_t stride, int64_t features, int64_t k, void* panel,
                 int64_t panel_stride) {
  for (int64_t f = 0; f < features; ++f) {
    const uint16_t* row = weight + f * stride;
    float* out = static_cast<float*>(panel) + f * panel_stride;
    prefetch_next(row, k * 2);
    int64_t i = 0;
    for (; i + 8 <= k; i += 8) {
      const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + i));
      _mm256_storeu_ps(out + i, widen_low(_mm256_cvtepu16_epi32(x)));
    }
    for (; i < k; ++i) out[i] = widen(row[i]);
    for (; i < padded(k); ++i) out[i] = 0;
  }
}

// Like decode(), in the elements' own order. Each code byte is put where its two elements are
// wanted: those of a 32-bit lane 8 apart, so that its lower halves, and its upper ones, become 8
// neighbours. Even elements stand in even 16-bit lanes.
void decode_in_order(const uint8_t* codes, uint8_t scale, float* out) {
  const __m256i place = _mm256_setr_epi8(0, 4, 0, 4, 1, 5, 1, 5, 8, 12, 8, 12, 9, 13, 9, 13,  //
                                         2, 6, 2, 6, 3, 7, 3, 7, 10, 14, 10, 14, 11, 15, 11, 15);
  const __m256i pairs = _mm256_shuffle_epi8(
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes))), place);
  const __m256i odd = _mm256_mulhi_epu16(pairs, _mm256_set1_epi16(1 << 12));  // pairs >> 4
  const __m256i index =
      _mm256_and_si256(_mm256_blend_epi16(pairs, odd, 0xaa), _mm256_set1_epi8(15));
  const auto* table = reinterpret_cast<const __m128i*>(kMxfp4Bytes.bytes[scale]);
  const __m256i low =
      _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(table)), index);
  const __m256i high =
      _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(table + 1)), index);
  const __m256i first = _mm256_unpacklo_epi8(low, high);
  const __m256i second = _mm256_unpackhi_epi8(low, high);
  _mm256_storeu_ps(out, widen_low(first));
  _mm256_storeu_ps(out + 8, widen_high(first));
  _mm256_storeu_ps(out + 16, widen_low(second));
  _mm256_storeu_ps(out + 24, widen_high(second));
}

void panel_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t block_stride,
                 int64_t features, int64_t k, void* panel, int64_t panel_stride) {
  for (int64_t f = 0; f < features; ++f) {
    float* out = static_cast<float*>(panel) + f * panel_stride;
    const uint8_t* row_codes = codes + f * block_stride * 16;
    const uint8_t* row_scales = scales + f * block_stride;
    prefetch_next(row_codes, k / 2);
    for (int64_t b = 0; b < k / 32; ++b)
      decode_in_order(row_codes + b * 16, row_scales[b], out + b * 32);
  }
}

constexpr int kTile = 6;

// One feature's sums for 16 tokens.
struct Pair {
  __m256 low, high;
};
Pair load_pair(const float* sums, bool first) {
  if (first) return {_mm256_setzero_ps(), _mm256_setzero_ps()};
  return {_mm256_load_ps(sums), _mm256_load_ps(sums + 8)};
}
void store_pair(const Pair& pair, float* sums) {
  _mm256_store_ps(sums, pair.low);
  _mm256_store_ps(sums + 8, pair.high);
}
void multiply_add(Pair& sums, const float* weight, const Pair& tokens) {
  const __m256 w = _mm256_broadcast_ss(weight);
  multiply_add(sums.low, w, tokens.low);
  multiply_add(sums.high, w, tokens.high);
}

// kTile features x 16 tokens. The sums have names because g++ 12 would store an array of them in
// every step.
void multiply_tile(const float* a, int64_t a_stride, const uint32_t* x, int64_t depth, float* sums,
                   bool first) {
  Pair sums0 = load_pair(sums, first), sums1 = load_pair(sums + kGroup, first);
  Pair sums2 = load_pair(sums + 2 * kGroup, first), sums3 = load_pair(sums + 3 * kGroup, first);
  Pair sums4 = load_pair(sums + 4 * kGroup, first), sums5 = load_pair(sums + 5 * kGroup, first);
  const float* b = a + 3 * a_stride;  // addresses of six features from two registers
  for (int64_t k = 0; k < depth; k += 2, a += 2, b += 2, x += kGroup) {
    const auto* pairs = reinterpret_cast<const __m256i*>(x);
    const Pair even = {widen_low(_mm256_load_si256(pairs)),
                       widen_low(_mm256_load_si256(pairs + 1))};
    multiply_add(sums0, a, even);
    multiply_add(sums1, a + a_stride, even);
    multiply_add(sums2, a + 2 * a_stride, even);
    multiply_add(sums3, b, even);
    multiply_add(sums4, b + a_stride, even);
    multiply_add(sums5, b + 2 * a_stride, even);
    const Pair odd = {widen_high(_mm256_load_si256(pairs)),
                      widen_high(_mm256_load_si256(pairs + 1))};
    multiply_add(sums0, a + 1, odd);
    multiply_add(sums1, a + a_stride + 1, odd);
    multiply_add(sums2, a + 2 * a_stride + 1, odd);
    multiply_add(sums3, b + 1, odd);
    multiply_add(sums4, b + a_stride + 1, odd);
    multiply_add(sums5, b + 2 * a_stride + 1, odd);
  }
  store_pair(sums0, sums);
  store_pair(sums1, sums + kGroup);
  store_pair(sums2, sums + 2 * kGroup);
  store_pair(sums3, sums + 3 * kGroup);
  store_pair(sums4, sums + 4 * kGroup);
  store_pair(sums5, sums + 5 * kGroup);
}

void multiply(const void* panel, int64_t panel_stride, int64_t features, const uint32_t* x,
              int64_t x_stride, int64_t groups, int64_t depth, float* sums, bool first) {
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t f = 0; f < features; f += kTile)
      multiply_tile(static_cast<const float*>(panel) + f * panel_stride, panel_stride,
                    x + g * x_stride, depth, sums + (g * features + f) * kGroup, first);
}

}  // namespace

const MatmulKernels& matmul_kernels_avx2() {
  static constexpr MatmulKernels kKernels = {
      .name = "avx2",
      .x_element_bytes = 8,  // float32, and integers beside it
      .prepare_dense = prepare_dense,
      .prepare_mxfp4 = prepare_mxfp4_avx2,
      .dot_dense = dot_dense,
      .dot_mxfp4 = dot_mxfp4_avx2,
      .panel_element_bytes = 4,
      .feature_tile = kTile,
      .features_per_task = 96,
      .k_chunk = 288,
      .pack_group = pack_group_avx2,
      .pack_group_mxfp4 = pack_group_avx2,
      .panel_dense = panel_dense,
      .panel_mxfp4 = panel_mxfp4,
      .multiply = multiply,
      .transpose = transpose_avx2,
      .finish_bf16 = finish_bf16_avx2,
      .finish_f32 = finish_f32_avx2,
      .swiglu = swiglu_row_avx2,
      .swiglu_pairs = swiglu_pairs_avx2,
      .combine = combine_avx2};
  return kKernels;
}

}  // namespace moxie::cpu
