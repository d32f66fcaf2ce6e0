#include "mxfp4/e2m1.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace moxie::mxfp4 {
namespace {

constexpr float kValues[16] = {0,     0.5f,  1,     1.5f,  2,     3,     4,     6,
                               -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

TEST(E2m1, EveryCodeHasItsValueAndComesBack) {
  for (int code = 0; code < 16; ++code) {
    const float value = e2m1_to_float(static_cast<uint8_t>(code));
    EXPECT_EQ(value, kValues[code]) << "code " << code;
    EXPECT_EQ(std::signbit(value), code >= 8) << "code " << code;
    EXPECT_EQ(e2m1_from_float(value), code);
  }
}

TEST(E2m1, OnlyTheLowFourBitsOfACodeCount) {
  for (int code = 0; code < 256; ++code)
    EXPECT_EQ(e2m1_to_float(static_cast<uint8_t>(code)), kValues[code % 16]);
}

TEST(E2m1, TheTablesAgreeWithTheFunction) {
  for (int code = 0; code < 16; ++code) {
    EXPECT_EQ(kE2m1Doubled[code], 2 * kValues[code]);
    EXPECT_EQ(kE2m1Bf16Bits[code], to_bf16(kValues[code]).bits) << "code " << code;
  }
}

// The borders between codes, and on which side each border itself lies.
TEST(E2m1, BordersBelongToTheEvenCodeAndTheirNeighboursToTheNearest) {
  const struct {
    float border;
    int below, at, above;
  } borders[] = {{0.25f, 0, 0, 1}, {0.75f, 1, 2, 2}, {1.25f, 2, 2, 3}, {1.75f, 3, 4, 4},
                 {2.5f, 4, 4, 5},  {3.5f, 5, 6, 6},  {5.0f, 6, 6, 7},  {6.0f, 7, 7, 7}};
  const float infinity = std::numeric_limits<float>::infinity();
  for (const auto& b : borders) {
    for (const int sign : {0, 8}) {
      const float factor = sign == 0 ? 1.0f : -1.0f;
      EXPECT_EQ(e2m1_from_float(factor * std::nextafter(b.border, 0.0f)), b.below + sign);
      EXPECT_EQ(e2m1_from_float(factor * b.border), b.at + sign) << b.border;
      EXPECT_EQ(e2m1_from_float(factor * std::nextafter(b.border, infinity)), b.above + sign);
    }
  }
}

TEST(E2m1, SaturatesWhateverIsTooLargeAndKeepsTheSign) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float value : {6.5f, 7.0f, 1e30f, std::numeric_limits<float>::max(), infinity, nan}) {
    EXPECT_EQ(e2m1_from_float(value), 7) << value;
    EXPECT_EQ(e2m1_from_float(std::copysign(value, -1.0f)), 15) << value;
  }
  const float smallest = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(e2m1_from_float(smallest), 0);
  EXPECT_EQ(e2m1_from_float(-smallest), 8);
}

// No code is nearer than the chosen one, and of two equally near ones it is the even one: for every
// 1021st float32 from 0 to 16, which meets every exponent many times.
TEST(E2m1, ChoosesTheNearestCodeOverTheWholeRange) {
  const uint32_t end = __builtin_bit_cast(uint32_t, 16.0f);
  for (uint32_t bits = 0; bits < end; bits += 1021) {
    const float value = __builtin_bit_cast(float, bits);
    const int chosen = e2m1_from_float(value);
    ASSERT_LT(chosen, 8);
    const double distance = std::abs(static_cast<double>(value) - kValues[chosen]);
    for (int code = 0; code < 8; ++code) {
      const double other = std::abs(static_cast<double>(value) - kValues[code]);
      ASSERT_TRUE(distance < other || code == chosen || (distance == other && chosen % 2 == 0))
          << value << ": " << chosen << " or " << code;
    }
  }
}

// Both directions run in the compiler.
static_assert(e2m1_to_float(13) == -3.0f);
static_assert(e2m1_from_float(-2.6f) == 13);

}  // namespace
}  // namespace moxie::mxfp4
