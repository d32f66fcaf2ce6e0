// What goes before and after the products, in AVX-512: packing, transposing, bias, SwiGLU,
// rounding.
#include <immintrin.h>

#include "cpu/matmul_avx512.h"
#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_lookup_avx512.h"

namespace moxie::cpu {
namespace {

// To the nearest bf16, ties to even; NaN stays NaN. (VCVTNEPS2BF16 would flush subnormals.)
__m512i round_bits(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(sum, is_nan, bits, _mm512_set1_epi32(0x00400000));
}

__m512 widen(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

__m512 load_bf16(const uint16_t* p, __mmask16 mask) {
  return widen(_mm256_maskz_loadu_epi16(mask, p));
}

// e^x to 2^-21 relative; overflows to infinity and underflows to zero as it should.
// x = n ln 2 + r, |r| <= ln 2 / 2; degree 6 around 0 truncates less than 2^-22.
__m512 exp_512(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e400p-1f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
  __m512 p = _mm512_set1_ps(1.0f / 720);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

// min and max return their second operand when one is NaN, so NaN passes through.
__m512i swiglu_16(__m512 gate, __m512 up, __m512 alpha, __m512 limit) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 g = _mm512_min_ps(limit, gate);
  const __m512 minus_limit = _mm512_sub_ps(_mm512_setzero_ps(), limit);
  const __m512 u = _mm512_max_ps(minus_limit, _mm512_min_ps(limit, up));
  // Beyond 200 exp overflows anyway; without the bound infinity - infinity would appear in it.
  const __m512 minus_ag = _mm512_mul_ps(_mm512_sub_ps(_mm512_setzero_ps(), alpha), g);
  const __m512 bounded =
      _mm512_max_ps(_mm512_set1_ps(-200.0f), _mm512_min_ps(_mm512_set1_ps(200.0f), minus_ag));
  const __m512 a = _mm512_div_ps(g, _mm512_add_ps(one, exp_512(bounded)));
  return round_bits(_mm512_mul_ps(a, _mm512_add_ps(u, one)));
}

template <bool kLookupOrder>
void pack_rows(const uint16_t* const* rows, int64_t k, uint32_t* out) {
  for (int64_t begin = 0; begin < k; begin += kDepth) {
    const int64_t count = k - begin;
    const __mmask32 mask = count >= 32 ? 0xffffffffu : (1u << count) - 1u;
    __m512i block[16];
    for (int t = 0; t < 16; ++t) {
      block[t] = rows[t] ? _mm512_maskz_loadu_epi16(mask, rows[t] + begin) : _mm512_setzero_si512();
      if (kLookupOrder) block[t] = to_lookup_order(block[t]);
    }
    transpose_16(block);
    for (int p = 0; p < 16; ++p) _mm512_store_si512(out + (begin / 2 + p) * kGroup, block[p]);
  }
}

// SwiGLU of two features, gate and up, for 16 tokens: bf16 numbers in the upper halves.
__m512i swiglu_at(const float* sums, const float* bias, __m512 alpha, __m512 limit) {
  const auto z = [&](int q) {
    return _mm512_add_ps(_mm512_load_ps(sums + q * kGroup), _mm512_set1_ps(bias[q]));
  };
  return swiglu_16(z(0), z(1), alpha, limit);
}

__m512i join_pairs(__m512i low, __m512i high) {
  const __m512i upper_half = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return _mm512_or_si512(_mm512_srli_epi32(low, 16), _mm512_and_si512(high, upper_half));
}

}  // namespace

void pack_group_avx512(const uint16_t* const* rows, int64_t k, uint32_t* out) {
  pack_rows<false>(rows, k, out);
}

void pack_group_lookup_avx512(const uint16_t* const* rows, int64_t k, uint32_t* out) {
  pack_rows<true>(rows, k, out);
}

void transpose_avx512(const float* sums, int64_t features, float* rows, int64_t row_stride) {
  for (int64_t f = 0; f < features; f += 16) {
    __m512i block[16];
    for (int i = 0; i < 16; ++i) block[i] = _mm512_load_si512(sums + (f + i) * kGroup);
    transpose_16(block);
    for (int t = 0; t < 16; ++t) _mm512_storeu_si512(rows + t * row_stride + f, block[t]);
  }
}

void finish_bf16_avx512(const float* z, const float* bias, float scale, const uint16_t* residual,
                        uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = lanes_16(n - i);
    __m512 t = _mm512_maskz_loadu_ps(mask, z + i);
    if (bias) t = _mm512_add_ps(t, _mm512_maskz_loadu_ps(mask, bias + i));
    __m512i bits = round_bits(_mm512_mul_ps(t, _mm512_set1_ps(scale)));
    if (residual) {
      const __m512 rounded = _mm512_castsi512_ps(
          _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
      bits = round_bits(_mm512_add_ps(load_bf16(residual + i, mask), rounded));
    }
    _mm256_mask_storeu_epi16(out + i, mask, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
  }
}

void finish_f32_avx512(const float* z, const float* bias, float scale, const float* residual,
                       float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = lanes_16(n - i);
    __m512 t = _mm512_maskz_loadu_ps(mask, z + i);
    if (bias) t = _mm512_add_ps(t, _mm512_maskz_loadu_ps(mask, bias + i));
    t = _mm512_mul_ps(t, _mm512_set1_ps(scale));
    if (residual) t = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, residual + i), t);
    _mm512_mask_storeu_ps(out + i, mask, t);
  }
}

void swiglu_row_avx512(const float* z, const float* bias, float alpha, float limit, int64_t n,
                       uint16_t* out) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  for (int64_t j = 0; j < n; j += 16) {
    const __mmask16 low = lanes_16(2 * (n - j));
    const __mmask16 high =
        2 * (n - j) > 16 ? lanes_16(2 * (n - j) - 16) : static_cast<__mmask16>(0);
    const __m512 z0 = _mm512_add_ps(_mm512_maskz_loadu_ps(low, z + 2 * j),
                                    _mm512_maskz_loadu_ps(low, bias + 2 * j));
    const __m512 z1 = _mm512_add_ps(_mm512_maskz_loadu_ps(high, z + 2 * j + 16),
                                    _mm512_maskz_loadu_ps(high, bias + 2 * j + 16));
    const __m512i bits =
        swiglu_16(_mm512_permutex2var_ps(z0, even, z1), _mm512_permutex2var_ps(z0, odd, z1),
                  _mm512_set1_ps(alpha), _mm512_set1_ps(limit));
    _mm256_mask_storeu_epi16(out + j, lanes_16(n - j),
                             _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
  }
}

// Four pairs are eight results, a word of codes and the next: element l of both makes a pair, four
// pairs behind the one of l - 1.
void swiglu_pairs_lookup_avx512(const float* sums, const float* bias, float alpha, float limit,
                                int64_t n, uint32_t* out) {
  const __m512 alphas = _mm512_set1_ps(alpha), limits = _mm512_set1_ps(limit);
  for (int64_t i = 0; i < n; i += 4) {
    uint32_t* block = out + (i / 16 * 16 + i % 16 / 4) * kGroup;
    for (int64_t l = 0; l < 4; ++l) {
      const int64_t first = 4 * i + 2 * l;  // of the features
      const __m512i low = swiglu_at(sums + first * kGroup, bias + first, alphas, limits);
      const __m512i high = swiglu_at(sums + (first + 8) * kGroup, bias + first + 8, alphas, limits);
      _mm512_store_si512(block + 4 * l * kGroup, join_pairs(low, high));
    }
  }
}

void combine_avx512(const uint16_t* y, int64_t slots, int64_t y_stride, const uint16_t* residual,
                    uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = lanes_16(n - i);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t slot = 0; slot < slots; ++slot)
      sum = _mm512_add_ps(sum, load_bf16(y + slot * y_stride + i, mask));
    __m512i bits = round_bits(sum);
    if (residual) {
      const __m512 rounded = _mm512_castsi512_ps(
          _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
      bits = round_bits(_mm512_add_ps(load_bf16(residual + i, mask), rounded));
    }
    _mm256_mask_storeu_epi16(out + i, mask, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
  }
}

}  // namespace moxie::cpu
