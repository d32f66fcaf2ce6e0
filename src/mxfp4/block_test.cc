#include "mxfp4/block.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "moxie/error.h"

namespace moxie::mxfp4 {
namespace {

constexpr ScaleRule kRules[] = {ScaleRule::kRoundUp, ScaleRule::kFloor, ScaleRule::kEven};
constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Block {
  uint8_t scale = 0;
  std::array<uint8_t, kBlockBytes> packed = {};

  // The first `count` codes; the others must be 0.
  std::vector<int> codes(size_t count) const {
    std::vector<int> result;
    for (int t = 0; t < kBlock; ++t) {
      const int code = code_at(packed.data(), t);
      if (result.size() < count)
        result.push_back(code);
      else
        EXPECT_EQ(code, 0) << "element " << t;
    }
    return result;
  }
};

// The values, and zeros behind them.
Block encode(const std::vector<float>& values, ScaleRule rule) {
  std::array<float, kBlock> all = {};
  std::copy(values.begin(), values.end(), all.begin());
  Block block;
  encode_block(all.data(), rule, block.packed.data(), &block.scale);
  return block;
}

std::array<float, kBlock> decode(const Block& block) {
  std::array<float, kBlock> values;
  decode_block(block.packed.data(), block.scale, values.data());
  return values;
}

using Codes = std::vector<int>;

// ---- blocks worked by hand ----------------------------------------------------------------------

const std::vector<float> kRest = {1.3f, -0.8f, 0.4f, 2.6f, -4.4f, 0.2f, 3.6f};

std::vector<float> with_first(float first) {
  std::vector<float> values = {first};
  values.insert(values.end(), kRest.begin(), kRest.end());
  return values;
}

TEST(WorkedBlock, LargestBelowOrAtSixIsTheSameUnderRoundUpAndFloor) {
  for (const ScaleRule rule : {ScaleRule::kRoundUp, ScaleRule::kFloor}) {
    for (const float first : {5.9f, 6.0f}) {
      const Block block = encode(with_first(first), rule);
      EXPECT_EQ(block.scale, 127);
      EXPECT_EQ(block.codes(8), (Codes{7, 3, 10, 1, 5, 14, 0, 6}));
      EXPECT_EQ(block.packed[0], 0x37);
      EXPECT_EQ(block.packed[1], 0x1a);
      EXPECT_EQ(block.packed[2], 0xe5);
      EXPECT_EQ(block.packed[3], 0x60);
      const auto values = decode(block);
      const float want[] = {6, 1.5f, -1, 0.5f, 3, -4, 0, 4};
      for (size_t t = 0; t < 8; ++t) EXPECT_EQ(values[t], want[t]) << t;
    }
  }
}

TEST(WorkedBlock, TheNextBf16AboveSixIsClippedByFloorAndDoublesTheScaleOfRoundUp) {
  const Block floor = encode(with_first(6.03125f), ScaleRule::kFloor);
  EXPECT_EQ(floor.scale, 127);
  EXPECT_EQ(floor.codes(8), (Codes{7, 3, 10, 1, 5, 14, 0, 6}));
  const Block up = encode(with_first(6.03125f), ScaleRule::kRoundUp);
  EXPECT_EQ(up.scale, 128);
  EXPECT_EQ(up.codes(8), (Codes{5, 1, 9, 0, 3, 12, 0, 4}));
  EXPECT_EQ(up.packed[0], 0x15);
  EXPECT_EQ(up.packed[1], 0x09);
  EXPECT_EQ(up.packed[2], 0xc3);
  EXPECT_EQ(up.packed[3], 0x40);
  const auto values = decode(up);
  const float want[] = {6, 1, -1, 0, 3, -4, 0, 4};
  for (size_t t = 0; t < 8; ++t) EXPECT_EQ(values[t], want[t]) << t;
}

TEST(WorkedBlock, AlmostEightAndEight) {
  const Block floor = encode(with_first(7.9f), ScaleRule::kFloor);
  EXPECT_EQ(floor.scale, 127);
  EXPECT_EQ(floor.codes(8), (Codes{7, 3, 10, 1, 5, 14, 0, 6}));
  const Block up = encode(with_first(7.9f), ScaleRule::kRoundUp);
  EXPECT_EQ(up.scale, 128);
  EXPECT_EQ(up.codes(8), (Codes{6, 1, 9, 0, 3, 12, 0, 4}));
  EXPECT_EQ(decode(up)[0], 8);
  for (const ScaleRule rule : {ScaleRule::kRoundUp, ScaleRule::kFloor}) {
    const Block eight = encode(with_first(8), rule);
    EXPECT_EQ(eight.scale, 128);
    EXPECT_EQ(eight.codes(8), (Codes{6, 1, 9, 0, 3, 12, 0, 4}));
  }
}

TEST(WorkedBlock, TiesAtScaleOneGoToTheEvenCode) {
  const Block block = encode({6, .25f, .75f, 1.25f, 1.75f, 2.5f, 3.5f, 5}, ScaleRule::kRoundUp);
  EXPECT_EQ(block.scale, 127);
  EXPECT_EQ(block.codes(8), (Codes{7, 0, 2, 2, 4, 4, 6, 6}));
  const uint8_t want[] = {0x07, 0x22, 0x44, 0x66};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(block.packed[i], want[i]);
}

TEST(WorkedBlock, MixedSignsUnderBothRules) {
  const std::vector<float> values = {1, -0.5f, .3f, 6, -6.1f, 2, .01f, -3.3f};
  const Block up = encode(values, ScaleRule::kRoundUp);
  EXPECT_EQ(up.scale, 128);
  EXPECT_EQ(up.codes(8), (Codes{1, 8, 0, 5, 13, 2, 0, 11}));
  const Block floor = encode(values, ScaleRule::kFloor);
  EXPECT_EQ(floor.scale, 127);
  EXPECT_EQ(floor.codes(8), (Codes{2, 9, 1, 7, 15, 4, 0, 13}));
}

TEST(WorkedBlock, CodesInOrderPackLowNibbleFirst) {
  std::array<uint8_t, kBlockBytes> packed = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
  float values[kBlock];
  decode_block(packed.data(), 127, values);
  for (int t = 0; t < 16; ++t) {
    EXPECT_EQ(code_at(packed.data(), t), t);
    EXPECT_EQ(values[t], e2m1_to_float(static_cast<uint8_t>(t)));
  }
}

// ---- edges of the scale -------------------------------------------------------------------------

TEST(ScaleEdge, AllZero) {
  for (const ScaleRule rule : kRules) {
    const Block block = encode({0.0f, -0.0f, 0.0f}, rule);
    EXPECT_EQ(block.scale, 0) << name(rule);
    EXPECT_EQ(block.codes(3), (Codes{0, 8, 0}));
  }
}

TEST(ScaleEdge, SmallestAmaxThatHasAScale) {
  const Block up = encode({0x1p-127f}, ScaleRule::kRoundUp);
  EXPECT_EQ(up.scale, 1);
  EXPECT_EQ(up.codes(1), (Codes{1}));
  EXPECT_EQ(decode(up)[0], 0x1p-127f);
  const Block floor = encode({0x1p-127f, -0x1p-127f}, ScaleRule::kFloor);
  EXPECT_EQ(floor.scale, 0);
  EXPECT_EQ(floor.codes(2), (Codes{0, 8}));  // flushed, the sign kept
  const Block even = encode({0x1p-127f}, ScaleRule::kEven);
  EXPECT_EQ(even.scale, 0);
  EXPECT_EQ(even.codes(1), (Codes{2}));  // 1 * 2^-127: this rule does not flush
}

TEST(ScaleEdge, AmaxThreeTimesTwoToTheMinus126) {
  const Block up = encode({3 * 0x1p-126f}, ScaleRule::kRoundUp);
  EXPECT_EQ(up.scale, 1);
  EXPECT_EQ(up.codes(1), (Codes{5}));
  const Block floor = encode({3 * 0x1p-126f}, ScaleRule::kFloor);
  EXPECT_EQ(floor.scale, 0);
  EXPECT_EQ(floor.codes(1), (Codes{0}));
}

TEST(ScaleEdge, LargestFiniteFloat) {
  const Block up = encode({kMax, -kMax}, ScaleRule::kRoundUp);
  EXPECT_EQ(up.scale, 253);
  EXPECT_EQ(up.codes(2), (Codes{6, 14}));
  EXPECT_EQ(decode(up)[0], kMax);  // 4 * 2^126 is clamped
  EXPECT_EQ(decode(up)[1], -kMax);
  const Block floor = encode({kMax}, ScaleRule::kFloor);
  EXPECT_EQ(floor.scale, 252);
  EXPECT_EQ(floor.codes(1), (Codes{7}));
  EXPECT_EQ(decode(floor)[0], 6 * 0x1p125f);
  const Block even = encode({kMax}, ScaleRule::kEven);
  EXPECT_EQ(even.scale, 253);
  EXPECT_EQ(even.codes(1), (Codes{6}));
}

TEST(ScaleEdge, InfinityMakesTheScaleNaN) {
  for (const ScaleRule rule : kRules) {
    const Block block = encode({1, kInfinity, -kInfinity, 2}, rule);
    EXPECT_EQ(block.scale, 255) << name(rule);
    EXPECT_EQ(block.codes(4), (Codes{0, 7, 15, 0})) << name(rule);
    for (const float value : decode(block)) EXPECT_TRUE(std::isnan(value));
  }
}

TEST(ScaleEdge, NaNIsPassedOverByTheMaximumAndSaturates) {
  for (const ScaleRule rule : kRules) {
    const Block block = encode({kNaN, 6, std::copysign(kNaN, -1.0f), 1}, rule);
    EXPECT_EQ(block.scale, 127) << name(rule);
    EXPECT_EQ(block.codes(4), (Codes{7, 7, 15, 2})) << name(rule);
  }
}

TEST(ScaleEdge, NothingButNaN) {
  const std::vector<float> values(kBlock, kNaN);
  EXPECT_EQ(encode(values, ScaleRule::kRoundUp).scale, 0);  // the integer addition overflows
  EXPECT_EQ(encode(values, ScaleRule::kFloor).scale, 255);
  EXPECT_EQ(encode(values, ScaleRule::kEven).scale, 255);
  EXPECT_EQ(encode(values, ScaleRule::kRoundUp).codes(kBlock), Codes(kBlock, 7));
}

TEST(ScaleEdge, JustAboveSixTimesAPowerOfTwoDoublesTheScaleOfRoundUpAlone) {
  for (int n = -120; n <= 120; ++n) {
    const float six = std::ldexp(6.0f, n);
    // The next bf16 up; the next float32 divides to a power of two again.
    const float above = std::ldexp(6.03125f, n);
    EXPECT_EQ(scale_from_amax(six, ScaleRule::kRoundUp), n + 127);
    EXPECT_EQ(scale_from_amax(above, ScaleRule::kRoundUp), n + 128);
    EXPECT_EQ(scale_from_amax(above, ScaleRule::kFloor), n + 127);
    EXPECT_EQ(scale_from_amax(std::nextafter(std::ldexp(8.0f, n), 0.0f), ScaleRule::kFloor),
              n + 127);
    EXPECT_EQ(scale_from_amax(std::ldexp(8.0f, n), ScaleRule::kFloor), n + 128);
    EXPECT_EQ(scale_from_amax(std::nextafter(std::ldexp(7.0f, n), 0.0f), ScaleRule::kEven),
              n + 127);
    EXPECT_EQ(scale_from_amax(std::ldexp(7.0f, n), ScaleRule::kEven), n + 128);
  }
}

TEST(ScaleEdge, NoFiniteAmaxGivesMoreThan253AndTheScaleNeverFalls) {
  for (const ScaleRule rule : kRules) {
    uint8_t before = 0;
    for (uint32_t bits = 0; bits <= 0x7f7fffffu; bits += 997) {
      const uint8_t scale = scale_from_amax(__builtin_bit_cast(float, bits), rule);
      ASSERT_GE(scale, before) << name(rule) << " at " << bits;
      before = scale;
    }
    EXPECT_LE(scale_from_amax(kMax, rule), 253);
  }
}

// ---- decoding -----------------------------------------------------------------------------------

// Every code at every scale: the exact product in float64, clamped where it does not fit.
TEST(Decode, All16CodesBy256Scales) {
  constexpr double kMaxBf16 = 0x1.fep127;
  for (int scale = 0; scale < 256; ++scale) {
    for (int code = 0; code < 16; ++code) {
      const auto code_byte = static_cast<uint8_t>(code);
      const auto scale_byte = static_cast<uint8_t>(scale);
      const float as_float = decode_element<float>(code_byte, scale_byte);
      const float as_bf16 = to_float(decode_element<bf16>(code_byte, scale_byte));
      if (scale == 255) {
        EXPECT_TRUE(std::isnan(as_float) && std::isnan(as_bf16)) << code;
        continue;
      }
      const double exact = std::ldexp(static_cast<double>(e2m1_to_float(code_byte)), scale - 127);
      const double clamped = std::clamp(exact, -double{kMax}, double{kMax});
      EXPECT_EQ(as_float, clamped) << "code " << code << ", scale " << scale;
      EXPECT_EQ(as_bf16, std::clamp(exact, -kMaxBf16, kMaxBf16)) << code << ", " << scale;
      EXPECT_EQ(std::signbit(as_float), code >= 8);
      EXPECT_EQ(std::signbit(as_bf16), code >= 8);
      if (scale <= 252) {
        EXPECT_EQ(as_float, exact);
      }
    }
  }
}

TEST(Decode, OnlyScales253And254Clamp) {
  EXPECT_EQ(decode_element<float>(5, 253), 3 * 0x1p126f);
  EXPECT_EQ(decode_element<float>(6, 253), kMax);
  EXPECT_EQ(decode_element<float>(3, 254), 1.5f * 0x1p127f);
  EXPECT_EQ(decode_element<float>(12, 254), -kMax);
  EXPECT_EQ(decode_element<bf16>(7, 254).bits, 0x7f7f);
  EXPECT_EQ(decode_element<float>(1, 0), 0x1p-128f);
  EXPECT_EQ(decode_element<bf16>(1, 0).bits, 0x0020);
}

// ---- there and back -----------------------------------------------------------------------------

// A block that is MXFP4 already keeps its values under every rule, whatever its largest code; the
// bytes may change, as the largest code becomes 4 .. 7.
TEST(RoundTrip, EveryPairOfLargestCodeAndCodeKeepsItsValue) {
  for (const ScaleRule rule : kRules) {
    for (int largest = 1; largest < 8; ++largest) {
      for (int code = 0; code < 16; ++code) {
        if ((code & 7) > largest) continue;
        for (int scale = 8; scale <= 252; ++scale) {
          const auto scale_byte = static_cast<uint8_t>(scale);
          const float first = decode_element<float>(static_cast<uint8_t>(largest), scale_byte);
          const float second = decode_element<float>(static_cast<uint8_t>(code), scale_byte);
          const Block again = encode({first, second}, rule);
          const auto values = decode(again);
          ASSERT_EQ(values[0], first) << name(rule) << ", codes " << largest << " " << code;
          ASSERT_EQ(values[1], second) << name(rule) << ", codes " << largest << " " << code;
          ASSERT_EQ(std::signbit(values[1]), code >= 8);
          ASSERT_GE(again.codes(2)[0], 4);
        }
      }
    }
  }
}

TEST(RoundTrip, RoundUpStaysWithinTheErrorBoundAndNeverClips) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (int block_idx = 0; block_idx < 2000; ++block_idx) {
    std::array<float, kBlock> values;
    for (float& value : values)
      value = std::ldexp(normal(random), static_cast<int>(random() % 9) - 4);
    Block block;
    encode_block(values.data(), ScaleRule::kRoundUp, block.packed.data(), &block.scale);
    const double unit = e8m0_to_float(block.scale);
    const auto got = decode(block);
    for (size_t t = 0; t < kBlock; ++t) {
      const double t_scaled = std::abs(values[t]) / unit;
      EXPECT_LE(t_scaled, 6.0);
      const double error = std::abs(double{got[t]} - values[t]);
      // At most a fifth of the value from 1 on, a quarter of the unit below.
      EXPECT_LE(error, t_scaled >= 1 ? 0.2 * std::abs(double{values[t]}) : 0.25 * unit);
    }
  }
}

// ---- rows ---------------------------------------------------------------------------------------

TEST(Rows, AreBitForBitTheBlocksOfTheirElements) {
  std::mt19937 random(7);
  for (const int64_t k : {0, 32, 64, 2880}) {
    std::vector<float> values(static_cast<size_t>(k));
    std::vector<bf16> values_bf16(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      // Any bits at all: NaN, infinity, subnormals.
      values[i] = __builtin_bit_cast(float, static_cast<uint32_t>(random()));
      if (i % 3 != 0) values[i] = std::ldexp(static_cast<float>(random() % 2001) - 1000, -12);
      values_bf16[i] = to_bf16(values[i]);
    }
    for (const ScaleRule rule : kRules) {
      std::vector<uint8_t> codes(values.size() / 2), scales(values.size() / kBlock);
      std::vector<uint8_t> codes_bf16 = codes, scales_bf16 = scales;
      encode_row(values.data(), k, rule, codes.data(), scales.data());
      encode_row(values_bf16.data(), k, rule, codes_bf16.data(), scales_bf16.data());
      std::vector<float> decoded(values.size());
      std::vector<bf16> decoded_bf16(values.size());
      decode_row(codes.data(), scales.data(), k, decoded.data());
      decode_row(codes.data(), scales.data(), k, decoded_bf16.data());
      for (size_t b = 0; b < scales.size(); ++b) {
        Block want;
        encode_block(&values[b * kBlock], rule, want.packed.data(), &want.scale);
        ASSERT_EQ(scales[b], want.scale);
        ASSERT_TRUE(std::equal(want.packed.begin(), want.packed.end(), &codes[b * kBlockBytes]));
        const auto want_values = decode(want);
        float widened[kBlock];
        for (size_t t = 0; t < kBlock; ++t) {
          const size_t i = b * kBlock + t;
          widened[t] = to_float(values_bf16[i]);
          if (std::isnan(want_values[t])) {
            ASSERT_TRUE(std::isnan(decoded[i]) && std::isnan(to_float(decoded_bf16[i])));
          } else {
            ASSERT_EQ(decoded[i], want_values[t]);
            ASSERT_EQ(
                decoded_bf16[i],
                decode_element<bf16>(code_at(want.packed.data(), static_cast<int>(t)), want.scale));
          }
        }
        encode_block(widened, rule, want.packed.data(), &want.scale);
        ASSERT_EQ(scales_bf16[b], want.scale);
        ASSERT_TRUE(
            std::equal(want.packed.begin(), want.packed.end(), &codes_bf16[b * kBlockBytes]));
      }
    }
  }
}

TEST(Rows, RefuseALengthThatIsNotWholeBlocks) {
  float values[33] = {};
  uint8_t codes[32], scales[2];
  for (const int64_t k : {-32, 1, 31, 33})
    EXPECT_THROW(encode_row(values, k, ScaleRule::kEven, codes, scales), Error) << k;
  EXPECT_THROW(decode_row(codes, scales, 33, values), Error);
}

TEST(Rows, ZeroCodesAreCountedAtEveryLengthAndAddress) {
  std::mt19937 random(9);
  std::vector<uint8_t> bytes(1000);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  std::fill(bytes.begin() + 300, bytes.begin() + 500, uint8_t{0x80});
  std::fill(bytes.begin() + 500, bytes.begin() + 800, uint8_t{0x11});
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t end = begin; end <= bytes.size(); end += 7) {
      uint64_t want = 0;
      for (size_t i = begin; i < end; ++i)
        want += static_cast<uint64_t>(bytes[i] % 8 == 0) + (bytes[i] / 16 % 8 == 0);
      ASSERT_EQ(count_zero_codes(std::span(bytes).subspan(begin, end - begin)), want);
    }
  }
}

TEST(ScaleRuleNames, ReadBackWhatTheyPrint) {
  for (const ScaleRule rule : kRules) EXPECT_EQ(parse_scale_rule(name(rule)), rule);
  EXPECT_EQ(parse_scale_rule("ROUND_UP"), std::nullopt);
  EXPECT_EQ(parse_scale_rule(""), std::nullopt);
}

// Blocks are encoded and decoded in the compiler as well.
constexpr float first_after_round_trip() {
  float values[kBlock] = {5.9f, 1.3f, -0.8f};
  uint8_t codes[kBlockBytes] = {};
  uint8_t scale = 0;
  encode_block(values, ScaleRule::kRoundUp, codes, &scale);
  decode_block(codes, scale, values);
  return values[0] + values[2];
}
static_assert(first_after_round_trip() == 5.0f);
static_assert(encode_element(kInfinity, 0.0f) == 7);

// No input, however strange, is too strange for the compiler.
constexpr bool every_code_and_scale_is_a_constant() {
  int num_numbers = 0;
  for (int pair = 0; pair < 16 * 256; ++pair) {
    const float value = decode_element<float>(pair % 16, static_cast<uint8_t>(pair / 16));
    num_numbers += value == value ? 1 : 0;
  }
  return num_numbers == 16 * 255;
}
static_assert(every_code_and_scale_is_a_constant());
constexpr int scales_of_strange_blocks() {
  int sum = 0;
  for (const ScaleRule rule : kRules) {
    for (const float strange : {kNaN, kInfinity, kMax, 0.0f, 0x1p-149f}) {
      float values[kBlock] = {};
      for (float& value : values) value = strange;
      uint8_t codes[kBlockBytes] = {};
      uint8_t scale = 0;
      encode_block(values, rule, codes, &scale);
      sum += scale;
    }
  }
  return sum;
}
static_assert(scales_of_strange_blocks() ==
              (0 + 255 + 255) + 3 * 255 + (253 + 252 + 253) + 3 * 0 + 3 * 0);

}  // namespace
}  // namespace moxie::mxfp4
