// Emulated AMX tiles.
#include "cpu/tile_emulated.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/bf16.h"

namespace moxie::cpu {
namespace {

// Two's powers far apart show the order: pairs' even and odd elements are summed apart.
TEST(EmulatedTiles, SumsInTheOrderOfTheManual) {
  uint32_t a[16][16] = {}, b[16][16] = {}, sums[16][16] = {};
  const auto pair = [](float low, float high) {
    return static_cast<uint32_t>(to_bf16(low).bits) |
           (static_cast<uint32_t>(to_bf16(high).bits) << 16);
  };
  for (int k = 0; k < 16; ++k) b[k][3] = pair(1, 1);
  a[2][0] = pair(0x1p24f, 1);
  a[2][1] = pair(1, 1);  // lost beside 2^24 in the even sum, kept in the odd one
  a[2][2] = pair(-0x1p24f, 0);
  sums[2][3] = std::bit_cast<uint32_t>(0.5f);
  EmulatedTiles::multiply(sums, a, b);
  EXPECT_EQ(std::bit_cast<float>(sums[2][3]), 2.5f);
  EXPECT_EQ(sums[2][4], 0u);
}

TEST(EmulatedTiles, FlushesSubnormals) {
  uint32_t a[16][16] = {}, b[16][16] = {}, sums[16][16] = {};
  a[0][0] = 0x0040;  // 2^-127
  b[0][0] = to_bf16(0x1p100f).bits;
  a[1][0] = to_bf16(0x1p-80f).bits;  // with 2^-50 below: a subnormal product
  b[0][1] = to_bf16(0x1p-50f).bits;
  sums[2][2] = 1;  // a subnormal sum
  EmulatedTiles::multiply(sums, a, b);
  EXPECT_EQ(sums[0][0], 0u);
  EXPECT_EQ(sums[1][1], 0u);
  EXPECT_EQ(sums[2][2], 0u);
}

}  // namespace
}  // namespace moxie::cpu
