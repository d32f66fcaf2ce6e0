#include "model/rope_table.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "base/bf16.h"
#include "model/weights.h"

namespace moxie {
namespace {

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }

TEST(RopeTable, FrequenciesOfThePublishedModelsHaveTheReferencesBits) {
  const std::vector<uint32_t> want = {
      0x3f800000, 0x3f306535, 0x3ef316a2, 0x3ea77faa, 0x3e66d3fa, 0x3e1f0cfd, 0x3ddb2f9e,
      0x3d970764, 0x3d502194, 0x3d01ddd5, 0x3c9e6470, 0x3c3dec94, 0x3bdea840, 0x3b7cfe14,
      0x3b093803, 0x3a89f778, 0x39ef543c, 0x390799b9, 0x3820adc6, 0x37dd6dfc, 0x37989328,
      0x375242fa, 0x3710e12c, 0x36c7a82b, 0x3689928c, 0x363d9647, 0x3602a245, 0x35b40668,
      0x35781728, 0x352af200, 0x34eb93eb, 0x34a252d3};
  for (const char* model : {"20b", "120b"}) {
    const RopeFrequencies frequencies = rope_frequencies(preset_config(model));
    ASSERT_EQ(frequencies.inv_freq.size(), want.size());
    for (size_t j = 0; j < want.size(); ++j)
      EXPECT_EQ(bits(frequencies.inv_freq[j]), want[j]) << "j = " << j;
    EXPECT_EQ(bits(frequencies.concentration), 0x3fac5c86u);
  }
}

TEST(RopeTable, RowsReproduceTheVectorsOfTheSpecification) {
  struct Vector {
    int64_t position;
    size_t j;
    float cos, sin;
    uint16_t cos_bits, sin_bits;
  };
  const std::vector<Vector> vectors = {{0, 0, 1.34657359f, 0, 0x3fac, 0x0000},
                                       {1, 0, 0.727556765f, 1.13310254f, 0x3f3a, 0x3f91},
                                       {1, 1, 1.03935814f, 0.856151283f, 0x3f85, 0x3f5b},
                                       {2, 0, -0.560372353f, 1.22443593f, 0xbf0f, 0x3f9d},
                                       {127, 8, 1.3271395f, 0.227949709f, 0x3faa, 0x3e69},
                                       {4095, 12, -1.21311712f, 0.584471703f, 0xbf9b, 0x3f16},
                                       {131071, 0, -1.101475f, -0.774605274f, 0xbf8d, 0xbf46},
                                       {131071, 17, -0.434856236f, -1.27442551f, 0xbedf, 0xbfa3}};
  const RopeFrequencies frequencies = rope_frequencies(preset_config("20b"));
  std::vector<float> cos(32), sin(32);
  for (const Vector& v : vectors) {
    rope_row(frequencies, v.position, cos, sin);
    // The vectors were made with float32 functions, good to two units in the last place.
    EXPECT_NEAR(cos[v.j], v.cos, 2 * 0x1p-23f) << v.position << " " << v.j;
    EXPECT_NEAR(sin[v.j], v.sin, 2 * 0x1p-23f) << v.position << " " << v.j;
    EXPECT_EQ(to_bf16(cos[v.j]).bits, v.cos_bits) << v.position << " " << v.j;
    EXPECT_EQ(to_bf16(sin[v.j]).bits, v.sin_bits) << v.position << " " << v.j;
  }
}

// The mistake of several engines (gpt-oss.md 5.4, "known wrong variants"): an end of the ramp
// rounded to whole indices moves frequencies by up to 76 %.
TEST(RopeTable, RoundsTheRampOnlyWhereTheConfigurationSaysSo) {
  GptOssConfig config = preset_config("20b");
  const RopeFrequencies exact = rope_frequencies(config);
  config.yarn_truncate = true;
  const RopeFrequencies rounded = rope_frequencies(config);
  EXPECT_EQ(rounded.inv_freq[8], exact.inv_freq[8]);
  EXPECT_NEAR(rounded.inv_freq[10] / exact.inv_freq[10], 1.006, 0.001);
  EXPECT_NEAR(rounded.inv_freq[17] / exact.inv_freq[17], 1.76, 0.005);
  EXPECT_EQ(rounded.inv_freq[18], exact.inv_freq[18]);
}

TEST(RopeTable, WithoutScalingFrequenciesArePlain) {
  GptOssConfig config = preset_config("20b");
  config.rope_scaling = RopeScaling::kNone;
  const RopeFrequencies frequencies = rope_frequencies(config);
  EXPECT_EQ(frequencies.concentration, 1);
  for (size_t j = 0; j < 32; ++j) {
    const double exact = std::pow(150000.0, -static_cast<double>(j) / 32);
    EXPECT_NEAR(frequencies.inv_freq[j] / exact, 1, 0x1p-22);
  }
}

TEST(RopeTable, ConcentrationFollowsAnExplicitAttentionFactor) {
  GptOssConfig config = preset_config("20b");
  config.yarn_attention_factor = 1.25;
  EXPECT_EQ(rope_frequencies(config).concentration, 1.25f);
  config.yarn_attention_factor.reset();
  config.yarn_factor = 1;
  EXPECT_EQ(rope_frequencies(config).concentration, 1);
}

}  // namespace
}  // namespace moxie
