// Vectors of W float32 lanes in plain C++ (GCC's and Clang's vector extension): SSE2, NEON or
// scalar code, whatever the compiler's target offers. The operations' kernels are templates over
// such a class; simd_avx2.h and simd_avx512.h have the same members.
//
//   Float, Bits     W lanes of float32 / uint32
//   even, odd       a Bits of bf16 pairs to the lower / upper halves as floats
//   round_bf16      each lane to the nearest bf16, kept as a float32. NaN stays NaN when its low 16
//                   bits are zero (all that comes from bf16 inputs), round_bf16_any_nan: any NaN
//   pair_bf16       two Floats that hold bf16 values to a Bits of pairs
//   keep_lanes      lanes first .. last - 1 of x, `other` in the rest
//   exp2_parts      x = n + f, n whole, |f| <= 1/2;  scale_exp2 gives p * 2^n, 0 below 2^-126
//   transpose       kWidth x kWidth 32-bit matrix, rows[i] to columns out[.. * stride]
#pragma once

#include <cstdint>
#include <cstring>

#include "base/bf16.h"

namespace moxie::cpu {

template <int W>
struct PortableSimd {
  static constexpr int kWidth = W;
  static constexpr int kMaxRows = 4;  // rows of a register tile of two vectors
  static constexpr bool kPairDot = false;
  typedef float Float __attribute__((vector_size(4 * W)));
  typedef uint32_t Bits __attribute__((vector_size(4 * W)));

  static Float set1(float x) { return Float{} + x; }
  static Float zero() { return Float{}; }
  static Bits set1_bits(uint32_t x) { return Bits{} + x; }
  static Float load(const float* p) { return load_as<Float>(p); }
  static Bits load_bits(const void* p) { return load_as<Bits>(p); }
  static void store(float* p, Float x) { std::memcpy(p, &x, sizeof x); }
  static void store_bits(void* p, Bits x) { std::memcpy(p, &x, sizeof x); }

  static Float load_bf16(const bf16* p) {
    uint32_t lanes[W];
    for (int i = 0; i < W; ++i) lanes[i] = uint32_t{p[i].bits} << 16;
    return load_as<Float>(lanes);
  }
  static void store_bf16(bf16* p, Float x) {  // x holds bf16 values
    uint32_t lanes[W];
    std::memcpy(lanes, &x, sizeof lanes);
    for (int i = 0; i < W; ++i) p[i].bits = static_cast<uint16_t>(lanes[i] >> 16);
  }

  static Float add(Float a, Float b) { return a + b; }
  static Float sub(Float a, Float b) { return a - b; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float mul_add(Float a, Float b, Float c) { return a * b + c; }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  static float reduce_add(Float x) {
    float lanes[W];
    store(lanes, x);
    float sum = lanes[0];
    for (int i = 1; i < W; ++i) sum += lanes[i];
    return sum;
  }
  static float reduce_max(Float x) {
    float lanes[W];
    store(lanes, x);
    float best = lanes[0];
    for (int i = 1; i < W; ++i) best = lanes[i] > best ? lanes[i] : best;
    return best;
  }

  static Bits exclusive_or(Bits a, Bits b) { return a ^ b; }
  static Float even(Bits pairs) { return as_float(pairs << 16); }
  static Float odd(Bits pairs) { return as_float(pairs & 0xffff0000u); }
  static Float round_bf16(Float x) {
    const Bits bits = as_bits(x);
    return as_float((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
  }
  static Float round_bf16_any_nan(Float x) {
    const Bits quiet = (as_bits(x) | 0x400000u) & 0xffff0000u;
    return x != x ? as_float(quiet) : round_bf16(x);
  }
  static Bits pair_bf16(Float even_lanes, Float odd_lanes) {
    return (as_bits(even_lanes) >> 16) | as_bits(odd_lanes);
  }
  static Float keep_lanes(Float x, Float other, int first, int last) {
    float lanes[W], others[W];
    store(lanes, x);
    store(others, other);
    for (int i = 0; i < W; ++i) lanes[i] = i < first || i >= last ? others[i] : lanes[i];
    return load(lanes);
  }

  static void exp2_parts(Float x, Float& n, Float& f) {
    x = x < -127.0f ? set1(-127.0f) : x;  // NaN stays
    n = (x + 0x1.8p23f) - 0x1.8p23f;      // rounds to nearest
    f = x - n;
  }
  static Float scale_exp2(Float p, Float n, Float) {
    return p * as_float((as_bits(n + 0x1.8p23f) + 127u) << 23);
  }

  static void transpose(const void* const* rows, uint32_t* out, int64_t stride) {
    for (int i = 0; i < W; ++i) {
      for (int j = 0; j < W; ++j)
        std::memcpy(&out[i * stride + j], static_cast<const char*>(rows[j]) + 4 * i, 4);
    }
  }
  // Inlined early: g++ takes a function that only prefetches for one without effects.
  [[gnu::always_inline]] static void prefetch(const void* p) { __builtin_prefetch(p); }

 private:
  static Bits as_bits(Float x) { return load_as<Bits>(&x); }
  static Float as_float(Bits x) { return load_as<Float>(&x); }
  template <class T>
  static T load_as(const void* p) {
    T x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
};

}  // namespace moxie::cpu
