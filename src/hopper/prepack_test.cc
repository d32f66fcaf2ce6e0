#include "hopper/prepack.h"

#include <gtest/gtest.h>

#include "cuda/device.h"
#include "hopper/test_support.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

TEST(Prepack, DoesWhatTheHostDoesAndUnpackUndoesIt) {
  if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  const cuda::Stream stream;
  for (const auto& [matrices, n, k] : {std::tuple<int64_t, int64_t, int64_t>{1, 16, 32},
                                       {1, 64, 576},
                                       {3, 80, 608},
                                       {2, 112, 352},
                                       {2, 144, 1696},
                                       {1, 16, 24576},
                                       {1, 208, 96},
                                       {3, 2880, 2880},
                                       {2, 5760, 2880},
                                       {1, 64, 8192},
                                       {1, 32, 64},
                                       {1, 48, 24544},
                                       {5, 16, 576},
                                       {2, 1040, 5760},
                                       {1, 8192, 2880}}) {
    const std::vector<uint8_t> codes =
        random_bytes(static_cast<size_t>(matrices * n * k / 2), 1, 0, 255);
    const std::vector<uint8_t> scales =
        random_bytes(static_cast<size_t>(matrices * n * k / 32), 2, 0, 255);
    std::vector<uint8_t> want_codes = codes, want_scales = scales;
    for (int64_t m = 0; m < matrices; ++m)
      mxfp4::prepack(n, k, want_codes.data() + m * n * k / 2, want_scales.data() + m * n * k / 32);
    const cuda::DeviceBuffer<uint8_t> d_codes(codes), d_scales(scales);
    PrepackArgs args{PrepackDirection::kPrepack, d_codes.data(), d_scales.data(), matrices, n, k};
    ASSERT_TRUE(supports_prepack(n, k));
    MOXIE_CUDA_CHECK(launch_prepack(args, stream.get()));
    stream.synchronize();
    ASSERT_TRUE(d_codes.to_host() == want_codes) << n << " x " << k;
    ASSERT_TRUE(d_scales.to_host() == want_scales) << n << " x " << k;
    args.direction = PrepackDirection::kUnpack;
    MOXIE_CUDA_CHECK(launch_prepack(args, stream.get()));
    stream.synchronize();
    ASSERT_TRUE(d_codes.to_host() == codes) << n << " x " << k;
    ASSERT_TRUE(d_scales.to_host() == scales) << n << " x " << k;
  }
}

}  // namespace
}  // namespace moxie::hopper
