// Quantisation against tests/golden/mxfp4_vectors.txt, made by make_mxfp4_vectors.py beside it.
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <sstream>
#include <string>

#include "mxfp4/block.h"

namespace moxie::mxfp4 {
namespace {

std::string hex(const uint8_t* bytes, size_t count) {
  static const char* const kDigits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

TEST(BlockVectors, EveryRuleGivesTheBytesOfAnIndependentQuantiser) {
  std::ifstream file(MOXIE_SOURCE_DIR "/tests/golden/mxfp4_vectors.txt");
  ASSERT_TRUE(file.is_open());
  int num_blocks = 0;
  for (std::string line; std::getline(file, line); ++num_blocks) {
    std::istringstream words(line);
    std::array<float, kBlock> values;
    for (float& value : values) {
      uint32_t bits = 0;
      ASSERT_TRUE(words >> std::hex >> bits) << line;
      value = __builtin_bit_cast(float, bits);
    }
    for (const ScaleRule rule : {ScaleRule::kRoundUp, ScaleRule::kFloor, ScaleRule::kEven}) {
      std::string bar, scale, codes;
      ASSERT_TRUE(words >> bar >> scale >> codes) << line;
      ASSERT_EQ(bar, "|");
      uint8_t got_codes[kBlockBytes], got_scale = 0;
      encode_block(values.data(), rule, got_codes, &got_scale);
      EXPECT_EQ(hex(&got_scale, 1), scale) << name(rule) << ", block " << num_blocks;
      EXPECT_EQ(hex(got_codes, kBlockBytes), codes) << name(rule) << ", block " << num_blocks;
    }
  }
  EXPECT_EQ(num_blocks, 153);
}

}  // namespace
}  // namespace moxie::mxfp4
