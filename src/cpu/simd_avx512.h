// Sixteen float32 lanes of AVX-512; the members are explained in simd_portable.h. For *_avx512.cc
// and later files only (empty elsewhere): everything is local to the including file.
#pragma once
#ifdef __AVX512F__

#include <immintrin.h>

#include <cstdint>

#include "base/bf16.h"

namespace moxie::cpu {
namespace {

struct Avx512 {
  static constexpr int kWidth = 16;
  static constexpr int kMaxRows = 8;
  static constexpr bool kPairDot = false;
  using Float = __m512;
  using Bits = __m512i;

  static Float set1(float x) { return _mm512_set1_ps(x); }
  static Float zero() { return _mm512_setzero_ps(); }
  static Bits set1_bits(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static Bits load_bits(const void* p) { return _mm512_loadu_si512(p); }
  static void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static void store_bits(void* p, Bits x) { _mm512_storeu_si512(p, x); }

  static Float load_bf16(const bf16* p) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return as_float(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  static void store_bf16(bf16* p, Float x) {
    const __m256i upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32(as_bits(x), 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), upper);
  }

  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float mul_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static float reduce_add(Float x) {
    const __m256 upper = _mm512_extractf32x8_ps(x, 1);
    const __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), upper);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static float reduce_max(Float x) {
    const __m256 upper = _mm512_extractf32x8_ps(x, 1);
    const __m256 y = _mm256_max_ps(_mm512_castps512_ps256(x), upper);
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }

  static Bits exclusive_or(Bits a, Bits b) { return _mm512_xor_si512(a, b); }
  static Float even(Bits pairs) { return as_float(_mm512_slli_epi32(pairs, 16)); }
  static Float odd(Bits pairs) { return as_float(_mm512_and_si512(pairs, set1_bits(0xffff0000u))); }
  static Float round_bf16(Float x) {
    const Bits bits = as_bits(x);
    const Bits last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), set1_bits(1));
    const Bits sum = _mm512_add_epi32(_mm512_add_epi32(bits, set1_bits(0x7fff)), last);
    return as_float(_mm512_and_si512(sum, set1_bits(0xffff0000u)));
  }
  static Float round_bf16_any_nan(Float x) {
    const Bits quiet =
        _mm512_and_si512(_mm512_or_si512(as_bits(x), set1_bits(0x400000)), set1_bits(0xffff0000u));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(round_bf16(x), nan, as_float(quiet));
  }
  static Bits pair_bf16(Float even_lanes, Float odd_lanes) {
    return _mm512_or_si512(_mm512_srli_epi32(as_bits(even_lanes), 16), as_bits(odd_lanes));
  }
  static Float keep_lanes(Float x, Float other, int first, int last) {
    const uint32_t below = last >= 16 ? 0xffffu : last <= 0 ? 0u : (1u << last) - 1;
    const uint32_t before = first >= 16 ? 0xffffu : first <= 0 ? 0u : (1u << first) - 1;
    return _mm512_mask_mov_ps(other, static_cast<__mmask16>(below & ~before), x);
  }

  static void exp2_parts(Float x, Float& n, Float& f) {
    n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    f = sub(x, n);
  }
  static Float scale_exp2(Float p, Float n, Float x) {
    // Not-less-than is true for NaN, which stays; -infinity gives 0 although its f is NaN.
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, set1(-126.0f), _CMP_NLT_UQ), p, n);
  }

  static void transpose(const void* const* rows, uint32_t* out, int64_t stride) {
    Bits r[16], t[16];
    for (int i = 0; i < 16; ++i) r[i] = load_bits(rows[i]);
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
      t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {  // r[4 i + c]: column c of each 128-bit lane, rows 4 i .. + 3
      r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
      r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
      r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
      r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int c = 0; c < 4; ++c) {
      const Bits a = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88);       // lanes 0, 2 of rows 0-7
      const Bits b = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);       // lanes 1, 3
      const Bits d = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);  // the same of rows 8-15
      const Bits e = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
      store_bits(out + c * stride, _mm512_shuffle_i32x4(a, d, 0x88));
      store_bits(out + (4 + c) * stride, _mm512_shuffle_i32x4(b, e, 0x88));
      store_bits(out + (8 + c) * stride, _mm512_shuffle_i32x4(a, d, 0xdd));
      store_bits(out + (12 + c) * stride, _mm512_shuffle_i32x4(b, e, 0xdd));
    }
  }
  [[gnu::always_inline]] static void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
  }

 private:
  static Bits as_bits(Float x) { return _mm512_castps_si512(x); }
  static Float as_float(Bits x) { return _mm512_castsi512_ps(x); }
};

}  // namespace
}  // namespace moxie::cpu

#endif
