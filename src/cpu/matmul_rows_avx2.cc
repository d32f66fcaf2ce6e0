// What goes before and after the products, in AVX2: packing, transposing, bias, SwiGLU, rounding.
#include <immintrin.h>

#include "cpu/matmul_avx2.h"
#include "cpu/matmul_kernels.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kLanes = 8;

// --- some of 8 lanes: AVX2 masks neither 16-bit loads nor stores, so the rest of a row goes
// through a buffer ---

__m256 load_floats(const float* p, int64_t count) {
  if (count >= kLanes) return _mm256_loadu_ps(p);
  float buffer[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return _mm256_loadu_ps(buffer);
}

__m256 load_bf16(const uint16_t* p, int64_t count) {
  uint16_t buffer[kLanes] = {};
  if (count < kLanes) {
    for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
    p = buffer;
  }
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

void store_floats(float* p, __m256 x, int64_t count) {
  if (count >= kLanes) return _mm256_storeu_ps(p, x);
  float buffer[kLanes];
  _mm256_storeu_ps(buffer, x);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}

// The upper halves of 8 lanes.
void store_bf16(uint16_t* p, __m256i bits, int64_t count) {
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m128i packed =
      _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
  if (count >= kLanes) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
  uint16_t buffer[kLanes];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(buffer), packed);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}

// --- rounding ---

__m256i upper_half(__m256i x) {
  return _mm256_and_si256(x, _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
}

// To the nearest bf16, ties to even, in the upper halves; NaN stays NaN.
__m256i round_bits(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
  return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(sum), _mm256_castsi256_ps(quiet),
                                              _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

// Rounds once more after adding a rounded number to another.
__m256i add_rounded(__m256 residual, __m256i bits) {
  return round_bits(_mm256_add_ps(residual, _mm256_castsi256_ps(upper_half(bits))));
}

// --- SwiGLU ---

__m256 exp2_of(__m256i exponent) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
}

// e^x to 2^-21 relative for |x| <= 100; overflows to infinity and underflows to zero as it should.
// x = n ln 2 + r, |r| <= ln 2 / 2; degree 6 around 0 truncates less than 2^-22. 2^n in two steps,
// because n goes beyond the exponents of normal numbers.
__m256 exp_256(__m256 x) {
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e400p-1f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
  __m256 p = _mm256_set1_ps(1.0f / 720);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(exponent, 1);
  return _mm256_mul_ps(_mm256_mul_ps(p, exp2_of(half)), exp2_of(_mm256_sub_epi32(exponent, half)));
}

// min and max return their second operand when one is NaN, so NaN passes through.
__m256i swiglu_8(__m256 gate, __m256 up, __m256 alpha, __m256 limit) {
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 g = _mm256_min_ps(limit, gate);
  const __m256 minus_limit = _mm256_sub_ps(_mm256_setzero_ps(), limit);
  const __m256 u = _mm256_max_ps(minus_limit, _mm256_min_ps(limit, up));
  // Beyond 100 exp overflows anyway; without the bound infinity - infinity would appear in it.
  const __m256 minus_ag = _mm256_mul_ps(_mm256_sub_ps(_mm256_setzero_ps(), alpha), g);
  const __m256 bounded =
      _mm256_max_ps(_mm256_set1_ps(-100.0f), _mm256_min_ps(_mm256_set1_ps(100.0f), minus_ag));
  const __m256 a = _mm256_div_ps(g, _mm256_add_ps(one, exp_256(bounded)));
  return round_bits(_mm256_mul_ps(a, _mm256_add_ps(u, one)));
}

// --- transposing ---

// out[j * out_stride + i] = rows[i][j] for i, j < 8. A half row of i and one of i + 4 are loaded
// into one register, so that nothing needs to cross its middle.
void transpose_8(const float* const* rows, float* out, int64_t out_stride) {
  for (int half = 0; half < 2; ++half) {
    __m256 r[4];
    for (int i = 0; i < 4; ++i)
      r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[i] + 4 * half)),
                                  _mm_loadu_ps(rows[i + 4] + 4 * half), 1);
    const __m256 low01 = _mm256_unpacklo_ps(r[0], r[1]), high01 = _mm256_unpackhi_ps(r[0], r[1]);
    const __m256 low23 = _mm256_unpacklo_ps(r[2], r[3]), high23 = _mm256_unpackhi_ps(r[2], r[3]);
    float* to = out + 4 * half * out_stride;
    _mm256_storeu_ps(to, _mm256_shuffle_ps(low01, low23, 0x44));
    _mm256_storeu_ps(to + out_stride, _mm256_shuffle_ps(low01, low23, 0xee));
    _mm256_storeu_ps(to + 2 * out_stride, _mm256_shuffle_ps(high01, high23, 0x44));
    _mm256_storeu_ps(to + 3 * out_stride, _mm256_shuffle_ps(high01, high23, 0xee));
  }
}

}  // namespace

void pack_group_avx2(const uint16_t* const* rows, int64_t k, uint32_t* out) {
  constexpr int64_t kStep = 16;  // elements: 8 pairs
  static constexpr uint16_t kZeros[kStep] = {};
  for (int64_t begin = 0; begin < (k + kDepth - 1) / kDepth * kDepth; begin += kStep) {
    for (int64_t first = 0; first < kGroup; first += kLanes) {
      uint16_t rest[kLanes][kStep];
      const float* pairs[kLanes];  // only moved, never computed with
      for (int64_t t = 0; t < kLanes; ++t) {
        const uint16_t* row = rows[first + t];
        const uint16_t* from = kZeros;
        if (row && begin + kStep <= k) {
          from = row + begin;
        } else if (row && begin < k) {
          for (int64_t i = 0; i < kStep; ++i) rest[t][i] = begin + i < k ? row[begin + i] : 0;
          from = rest[t];
        }
        pairs[t] = reinterpret_cast<const float*>(from);
      }
      transpose_8(pairs, reinterpret_cast<float*>(out + begin / 2 * kGroup + first), kGroup);
    }
  }
}

void transpose_avx2(const float* sums, int64_t features, float* rows, int64_t row_stride) {
  for (int64_t f = 0; f < features; f += kLanes) {
    for (int64_t t = 0; t < kGroup; t += kLanes) {
      const float* from[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) from[i] = sums + (f + i) * kGroup + t;
      transpose_8(from, rows + t * row_stride + f, row_stride);
    }
  }
}

void finish_bf16_avx2(const float* z, const float* bias, float scale, const uint16_t* residual,
                      uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    __m256 t = load_floats(z + i, n - i);
    if (bias) t = _mm256_add_ps(t, load_floats(bias + i, n - i));
    __m256i bits = round_bits(_mm256_mul_ps(t, _mm256_set1_ps(scale)));
    if (residual) bits = add_rounded(load_bf16(residual + i, n - i), bits);
    store_bf16(out + i, bits, n - i);
  }
}

void finish_f32_avx2(const float* z, const float* bias, float scale, const float* residual,
                     float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    __m256 t = load_floats(z + i, n - i);
    if (bias) t = _mm256_add_ps(t, load_floats(bias + i, n - i));
    t = _mm256_mul_ps(t, _mm256_set1_ps(scale));
    if (residual) t = _mm256_add_ps(load_floats(residual + i, n - i), t);
    store_floats(out + i, t, n - i);
  }
}

void swiglu_row_avx2(const float* z, const float* bias, float alpha, float limit, int64_t n,
                     uint16_t* out) {
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t count = 2 * (n - j);
    const __m256 z0 =
        _mm256_add_ps(load_floats(z + 2 * j, count), load_floats(bias + 2 * j, count));
    const __m256 z1 = _mm256_add_ps(load_floats(z + 2 * j + kLanes, count - kLanes),
                                    load_floats(bias + 2 * j + kLanes, count - kLanes));
    // Outputs 0 1 4 5 2 3 6 7.
    const __m256i bits = swiglu_8(_mm256_shuffle_ps(z0, z1, 0x88), _mm256_shuffle_ps(z0, z1, 0xdd),
                                  _mm256_set1_ps(alpha), _mm256_set1_ps(limit));
    store_bf16(out + j, _mm256_permute4x64_epi64(bits, 0xd8), n - j);
  }
}

void swiglu_pairs_avx2(const float* sums, const float* bias, float alpha, float limit, int64_t n,
                       uint32_t* out) {
  const __m256 alphas = _mm256_set1_ps(alpha), limits = _mm256_set1_ps(limit);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t t = 0; t < kGroup; t += kLanes) {
      __m256 z[4];
      for (int q = 0; q < 4; ++q)
        z[q] = _mm256_add_ps(_mm256_loadu_ps(sums + (4 * i + q) * kGroup + t),
                             _mm256_set1_ps(bias[4 * i + q]));
      const __m256i low = swiglu_8(z[0], z[1], alphas, limits);
      const __m256i high = swiglu_8(z[2], z[3], alphas, limits);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i * kGroup + t),
                          _mm256_or_si256(_mm256_srli_epi32(low, 16), upper_half(high)));
    }
  }
}

void combine_avx2(const uint16_t* y, int64_t slots, int64_t y_stride, const uint16_t* residual,
                  uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    __m256 sum = _mm256_setzero_ps();
    for (int64_t slot = 0; slot < slots; ++slot)
      sum = _mm256_add_ps(sum, load_bf16(y + slot * y_stride + i, n - i));
    __m256i bits = round_bits(sum);
    if (residual) bits = add_rounded(load_bf16(residual + i, n - i), bits);
    store_bf16(out + i, bits, n - i);
  }
}

}  // namespace moxie::cpu
