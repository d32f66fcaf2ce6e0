#include "hopper/quantize.h"

#include <gtest/gtest.h>

#include "cuda/device.h"
#include "hopper/test_support.h"

namespace moxie::hopper {
namespace {

TEST(Quantize, EveryBf16InBlocksOfEveryKindGivesTheHostsBytes) {
  if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  // All bit patterns in order (blocks of like magnitudes, NaN and infinity too), then at random.
  std::vector<bf16> values(65536 * 4);
  std::mt19937 random(3);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = {static_cast<uint16_t>(i < 65536 ? i : random())};
  const auto blocks = static_cast<int64_t>(values.size() / 32);
  const cuda::DeviceBuffer<bf16> d_values(values);
  const cuda::Stream stream;
  for (const auto rule :
       {mxfp4::ScaleRule::kRoundUp, mxfp4::ScaleRule::kFloor, mxfp4::ScaleRule::kEven}) {
    std::vector<uint8_t> codes(values.size() / 2), scales(values.size() / 32);
    mxfp4::encode_row(values.data(), static_cast<int64_t>(values.size()), rule, codes.data(),
                      scales.data());
    const cuda::DeviceBuffer<uint8_t> d_codes(std::vector<uint8_t>(codes.size(), 0xa5));
    const cuda::DeviceBuffer<uint8_t> d_scales(std::vector<uint8_t>(scales.size(), 0xa5));
    MOXIE_CUDA_CHECK(launch_quantize(
        {d_values.data(), d_codes.data(), d_scales.data(), blocks, rule}, stream.get()));
    stream.synchronize();
    EXPECT_TRUE(d_codes.to_host() == codes) << mxfp4::name(rule);
    EXPECT_TRUE(d_scales.to_host() == scales) << mxfp4::name(rule);
  }
}

// Numbers of blocks that fill no CTA, no warp, or several CTAs and a rest; what lies behind stays.
TEST(Quantize, AnyNumberOfBlocksThereAndBack) {
  if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  const cuda::Stream stream;
  for (const size_t blocks : {1, 3, 7, 8, 255, 256, 257, 4099}) {
    const std::vector<bf16> values = random_bf16(blocks * 32, 9);
    std::vector<uint8_t> codes(blocks * 16), scales(blocks);
    std::vector<bf16> back(blocks * 32);
    const auto elements = static_cast<int64_t>(blocks * 32);
    mxfp4::encode_row(values.data(), elements, mxfp4::ScaleRule::kRoundUp, codes.data(),
                      scales.data());
    mxfp4::decode_row(codes.data(), scales.data(), elements, back.data());
    codes.resize((blocks + 4) * 16, 0xa5), scales.resize(blocks + 4, 0xa5);
    back.resize((blocks + 4) * 32, bf16{0x7fff});
    const cuda::DeviceBuffer<bf16> d_values(values);
    const cuda::DeviceBuffer<uint8_t> d_codes(std::vector<uint8_t>(codes.size(), 0xa5));
    const cuda::DeviceBuffer<uint8_t> d_scales(std::vector<uint8_t>(scales.size(), 0xa5));
    const cuda::DeviceBuffer<bf16> d_back(std::vector<bf16>(back.size(), bf16{0x7fff}));
    const auto count = static_cast<int64_t>(blocks);
    MOXIE_CUDA_CHECK(launch_quantize(
        {d_values.data(), d_codes.data(), d_scales.data(), count, mxfp4::ScaleRule::kRoundUp},
        stream.get()));
    MOXIE_CUDA_CHECK(
        launch_dequantize({d_codes.data(), d_scales.data(), d_back.data(), count}, stream.get()));
    stream.synchronize();
    EXPECT_TRUE(d_codes.to_host() == codes) << blocks;
    EXPECT_TRUE(d_scales.to_host() == scales) << blocks;
    EXPECT_TRUE(d_back.to_host() == back) << blocks;
  }
}

TEST(Dequantize, EveryCodeTimesEveryScaleGivesTheHostsBits) {
  if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  std::vector<uint8_t> codes, scales;
  for (int scale = 0; scale < 256; ++scale) {
    scales.push_back(static_cast<uint8_t>(scale));
    for (int i = 0; i < 16; ++i)
      codes.push_back(static_cast<uint8_t>((2 * i) % 16 | ((2 * i + 1) % 16) << 4));
  }
  std::vector<bf16> want(256 * 32);
  mxfp4::decode_row(codes.data(), scales.data(), 256 * 32, want.data());
  const cuda::DeviceBuffer<uint8_t> d_codes(codes), d_scales(scales);
  const cuda::DeviceBuffer<bf16> got(std::vector<bf16>(want.size(), bf16{0x7fff}));
  const cuda::Stream stream;
  MOXIE_CUDA_CHECK(
      launch_dequantize({d_codes.data(), d_scales.data(), got.data(), 256}, stream.get()));
  stream.synchronize();
  EXPECT_TRUE(got.to_host() == want);
}

}  // namespace
}  // namespace moxie::hopper
