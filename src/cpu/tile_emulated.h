// AMX tiles in plain C++: what TDPBF16PS computes, bit for bit as Intel's manual has it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace moxie::cpu {
namespace {  // see tile_strips.h

class EmulatedTiles {
 public:
  EmulatedTiles() { configure(); }
  void configure() { std::memset(tiles_, 0, sizeof(tiles_)); }
  void release() {}

  template <int kTile>
  void zero() {
    std::memset(tiles_[kTile], 0, sizeof(tiles_[kTile]));
  }
  template <int kTile>
  void load(const void* p, int64_t stride) {
    for (int row = 0; row < 16; ++row)
      std::memcpy(tiles_[kTile][row], static_cast<const char*>(p) + row * stride, 64);
  }
  template <int kTile>
  void load_passing(const void* p, int64_t stride) {
    load<kTile>(p, stride);
  }
  template <int kTile>
  void store(void* p, int64_t stride) {
    for (int row = 0; row < 16; ++row)
      std::memcpy(static_cast<char*>(p) + row * stride, tiles_[kTile][row], 64);
  }
  template <int kC, int kA, int kB>
  void dot() {
    multiply(tiles_[kC], tiles_[kA], tiles_[kB]);
  }

  // sums[m][n] += the products of row m of a with column n of b, 16 pairs. Even and odd
  // elements are summed apart, each in one fused multiply-add, then added to each other and to the
  // sums; subnormal inputs and results count as zero.
  static void multiply(uint32_t (*sums)[16], const uint32_t (*a)[16], const uint32_t (*b)[16]) {
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 16; ++n) {
        float even = 0, odd = 0;
        for (int k = 0; k < 16; ++k) {
          even = flush(std::fma(low(a[m][k]), low(b[k][n]), even));
          odd = flush(std::fma(high(a[m][k]), high(b[k][n]), odd));
        }
        const float both = flush(even + odd);
        sums[m][n] = std::bit_cast<uint32_t>(flush(flush(std::bit_cast<float>(sums[m][n])) + both));
      }
    }
  }

 private:
  static float flush(float x) {
    return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
  }
  static float low(uint32_t pair) { return flush(std::bit_cast<float>(pair << 16)); }
  static float high(uint32_t pair) { return flush(std::bit_cast<float>(pair & 0xffff0000u)); }

  uint32_t tiles_[8][16][16];
};

}  // namespace
}  // namespace moxie::cpu
