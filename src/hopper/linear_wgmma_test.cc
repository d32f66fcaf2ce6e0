#include "hopper/linear_wgmma.h"

#include "hopper/linear_test_support.h"
#include "hopper/ops.h"
#include "hopper/test_support.h"

namespace moxie::hopper {
namespace {

class LinearWgmma : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
    MOXIE_CUDA_CHECK(prepare_linear_wgmma());
  }
  std::vector<bf16> run(const Linear& p, const LinearWgmmaConfig& config, bool overlap = false) {
    const OnDevice d(p);
    const cuda::Stream stream;
    run_prepack(d.prepack(), stream.get());
    stream.synchronize();
    LinearStreamArgs args;
    args.x = d.x.data(), args.codes = d.codes.data(), args.scales = d.scales.data();
    args.bias = d.bias.data(), args.out = d.out.data();
    if (p.with_residual) args.residual = d.residual.data();
    args.rows = static_cast<int>(p.rows), args.n = static_cast<int>(p.n);
    args.k = static_cast<int>(p.k);
    args.x_stride = p.k, args.residual_stride = p.n, args.out_stride = p.out_cols();
    args.swiglu = p.activation == Activation::kSwiglu;
    MOXIE_CUDA_CHECK(launch_linear_wgmma(args, config, overlap, stream.get()));
    stream.synchronize();
    return d.out.to_host();
  }
};

// Of a machine with few SMs, whose CTAs make several tiles, and of an H200.
std::vector<LinearWgmmaConfig> all_configs(int rows, int n, int k) {
  std::vector<LinearWgmmaConfig> configs = linear_wgmma_configs(rows, n, k, 4);
  for (const LinearWgmmaConfig& config : linear_wgmma_configs(rows, n, k, 132))
    configs.push_back(config);
  return configs;
}

// Tiles of features and rows with remainders, parts of k without a step, a block without partner.
TEST_F(LinearWgmma, EveryConfigStaysWithinTheBound) {
  for (const auto& [rows, n, k] : {std::tuple{1, 16, 32},
                                   {17, 80, 96},
                                   {33, 208, 608},
                                   {64, 400, 1184},
                                   {130, 192, 1792},
                                   {200, 1040, 1696},
                                   {300, 832, 544}}) {
    Linear p(rows, n, k);
    p.with_residual = rows == 64 || rows == 300;
    p.activation = n == 208 ? Activation::kSwiglu : Activation::kNone;
    const std::vector<ExactDot> exact = reference_mxfp4_linear(p.args());
    for (const LinearWgmmaConfig& config : all_configs(rows, n, k)) {
      SCOPED_TRACE(to_string(config));
      expect_within(p, exact, run(p, config));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(LinearWgmma, LargeScalesAndNanStayWhereTheyAre) {
  const Linear large(40, 208, 608, 128);
  const std::vector<ExactDot> exact = reference_mxfp4_linear(large.args());
  Linear p(40, 208, 608);
  p.weight.scales[5 * 19 + 3] = 255;  // of row 5
  for (const LinearWgmmaConfig& config : all_configs(40, 208, 608)) {
    SCOPED_TRACE(to_string(config));
    expect_within(large, exact, run(large, config));
    if (HasFatalFailure()) return;
    const std::vector<bf16> got = run(p, config);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(std::isnan(to_float(got[i])), i % 208 == 5) << i;
  }
}

// One config's bits do not depend on the rows beside, nor on the run, nor on when weights were
// asked for.
TEST_F(LinearWgmma, ARowsBitsDoNotDependOnItsBatchNorOnTheRun) {
  Linear all(100, 576, 1184);
  for (const LinearWgmmaConfig& config : all_configs(100, 576, 1184)) {
    const std::vector<bf16> together = run(all, config);
    EXPECT_TRUE(run(all, config, true) == together) << to_string(config);
    Linear one(1, 576, 1184);
    std::copy_n(all.x.begin() + 70 * 1184, 1184, one.x.begin());
    const std::vector<bf16> alone = run(one, linear_wgmma_config(config, 1, 576, 1184, 132));
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + 70 * 576))
        << to_string(config);
  }
}

// Tiles of 8 and of 16 rows sum in the same order.
TEST_F(LinearWgmma, ARowsBitsDoNotDependOnTheTilesRows) {
  const Linear p(7, 576, 1184);
  std::vector<std::vector<bf16>> results;
  for (const int tile_rows : {8, 16}) {
    LinearWgmmaConfig config;
    config.feature_groups = config.depth_groups = config.cluster = 2, config.tile_rows = tile_rows;
    results.push_back(run(p, linear_wgmma_config(config, 7, 576, 1184, 132)));
  }
  EXPECT_TRUE(results[0] == results[1]);
}

TEST(LinearWgmmaConfig, FitsForEverySizeAndFillsTheMachineWithParts) {
  for (const auto& [n, k] :
       {std::pair{2880, 2880}, {5760, 2880}, {8192, 8192}, {16, 32}, {65536, 64}, {64, 65536}})
    for (const int rows : {1, 17, 64, 65, 256, 1000, 4096, 65536}) {
      const LinearWgmmaConfig config = select_linear_wgmma_config(rows, n, k, 132);
      EXPECT_LE(config.shared_bytes, 227 * 1024) << to_string(config);
      EXPECT_GE(config.stages, 1) << to_string(config);
    }
  // 15 tiles would leave most SMs without work.
  EXPECT_GT(select_linear_wgmma_config(64, 2880, 2880, 132).cluster, 1);
  EXPECT_EQ(select_linear_wgmma_config(4096, 8192, 8192, 132).cluster, 1);
}

}  // namespace
}  // namespace moxie::hopper
