#include "base/memory.h"

#include <gtest/gtest.h>

#include "moxie/error.h"

namespace moxie {
namespace {

TEST(PageBuffer, IsZeroAndCountsAsAnonymousOnceTouched) {
  const size_t before = resident_memory().anonymous_bytes;
  PageBuffer buffer(64 << 20);
  EXPECT_LT(resident_memory().anonymous_bytes, before + (32 << 20));
  for (uint8_t& byte : buffer.as<uint8_t>()) byte += 1;
  EXPECT_GE(resident_memory().anonymous_bytes, before + (60 << 20));
  EXPECT_EQ(buffer.as<uint8_t>().back(), 1);
  EXPECT_GE(resident_memory().peak_bytes, size_t{60} << 20);
}

TEST(PageBuffer, RefusesWhatNoAddressSpaceHolds) {
  EXPECT_THROW(PageBuffer(size_t{1} << 60), Error);
}

}  // namespace
}  // namespace moxie
