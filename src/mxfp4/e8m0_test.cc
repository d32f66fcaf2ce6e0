#include "mxfp4/e8m0.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moxie::mxfp4 {
namespace {

TEST(E8m0, EveryByteIsItsPowerOfTwoTheSubnormalOneIncluded) {
  for (int byte = 0; byte < 255; ++byte)
    EXPECT_EQ(e8m0_to_float(static_cast<uint8_t>(byte)), std::ldexp(1.0f, byte - 127)) << byte;
  EXPECT_EQ(e8m0_to_float(0), 0x1p-127f);
  EXPECT_TRUE(std::isnan(e8m0_to_float(255)));
}

TEST(E8m0, TheReciprocalOfEveryByteIsExact) {
  for (int byte = 0; byte < 255; ++byte) {
    const auto scale = static_cast<uint8_t>(byte);
    EXPECT_EQ(e8m0_reciprocal(scale), std::ldexp(1.0f, 127 - byte)) << byte;
    EXPECT_EQ(e8m0_to_float(scale) * e8m0_reciprocal(scale), 1.0f) << byte;
  }
  EXPECT_TRUE(std::isnan(e8m0_reciprocal(255)));
}

static_assert(e8m0_to_float(130) == 8.0f);

}  // namespace
}  // namespace moxie::mxfp4
