// Eight float32 lanes of AVX2 and FMA; the members are explained in simd_portable.h. For *_avx2.cc
// files only (empty elsewhere): everything is local to the including file.
#pragma once
#ifdef __AVX2__

#include <immintrin.h>

#include <cstdint>

#include "base/bf16.h"

namespace moxie::cpu {
namespace {

struct Avx2 {
  static constexpr int kWidth = 8;
  static constexpr int kMaxRows = 4;
  static constexpr bool kPairDot = false;
  using Float = __m256;
  using Bits = __m256i;

  static Float set1(float x) { return _mm256_set1_ps(x); }
  static Float zero() { return _mm256_setzero_ps(); }
  static Bits set1_bits(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static Bits load_bits(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  static void store_bits(void* p, Bits x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }

  static Float load_bf16(const bf16* p) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return as_float(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  static void store_bf16(bf16* p, Float x) {
    const Bits upper = _mm256_srli_epi32(as_bits(x), 16);
    const Bits packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }

  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float mul_add(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static float reduce_add(Float x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static float reduce_max(Float x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }

  static Bits exclusive_or(Bits a, Bits b) { return _mm256_xor_si256(a, b); }
  static Float even(Bits pairs) { return as_float(_mm256_slli_epi32(pairs, 16)); }
  static Float odd(Bits pairs) { return as_float(_mm256_and_si256(pairs, set1_bits(0xffff0000u))); }
  static Float round_bf16(Float x) {
    const Bits bits = as_bits(x);
    const Bits last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), set1_bits(1));
    const Bits sum = _mm256_add_epi32(_mm256_add_epi32(bits, set1_bits(0x7fff)), last);
    return as_float(_mm256_and_si256(sum, set1_bits(0xffff0000u)));
  }
  static Float round_bf16_any_nan(Float x) {
    const Bits quiet =
        _mm256_and_si256(_mm256_or_si256(as_bits(x), set1_bits(0x400000)), set1_bits(0xffff0000u));
    return _mm256_blendv_ps(round_bf16(x), as_float(quiet), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  }
  static Bits pair_bf16(Float even_lanes, Float odd_lanes) {
    return _mm256_or_si256(_mm256_srli_epi32(as_bits(even_lanes), 16), as_bits(odd_lanes));
  }
  static Float keep_lanes(Float x, Float other, int first, int last) {
    const Bits lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const Bits below = _mm256_cmpgt_epi32(_mm256_set1_epi32(last), lane);
    const Bits from = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(first - 1));
    return _mm256_blendv_ps(other, x, as_float(_mm256_and_si256(below, from)));
  }

  static void exp2_parts(Float x, Float& n, Float& f) {
    x = _mm256_max_ps(set1(-127.0f), x);  // NaN stays: the second operand
    n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    f = sub(x, n);
  }
  static Float scale_exp2(Float p, Float n, Float) {
    const Bits exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), set1_bits(127));
    return mul(p, as_float(_mm256_slli_epi32(exponent, 23)));
  }

  static void transpose(const void* const* rows, uint32_t* out, int64_t stride) {
    Float r[8], t[8];
    for (int i = 0; i < 8; ++i) r[i] = as_float(load_bits(rows[i]));
    for (int i = 0; i < 4; ++i) {
      t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
      r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
      r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
      r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
      r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      store_bits(out + i * stride, as_bits(_mm256_permute2f128_ps(r[i], r[i + 4], 0x20)));
      store_bits(out + (i + 4) * stride, as_bits(_mm256_permute2f128_ps(r[i], r[i + 4], 0x31)));
    }
  }
  [[gnu::always_inline]] static void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
  }

 private:
  static Bits as_bits(Float x) { return _mm256_castps_si256(x); }
  static Float as_float(Bits x) { return _mm256_castsi256_ps(x); }
};

}  // namespace
}  // namespace moxie::cpu

#endif
