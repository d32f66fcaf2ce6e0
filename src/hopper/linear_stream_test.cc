#include "hopper/linear_stream.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cuda/device.h"
#include "hopper/test_support.h"
#include "mxfp4/block.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

struct Problem {
  int rows, n, k;
  std::vector<uint8_t> codes, scales;  // checkpoint's order
  std::vector<bf16> x, residual;
  std::vector<float> bias;
};

Problem random_problem(int rows, int n, int k, int low_scale = 118, int high_scale = 127) {
  Problem p{rows, n, k, {}, {}, {}, {}, {}};
  p.codes = random_bytes(static_cast<size_t>(n) * static_cast<size_t>(k / 2), 3, 0, 255);
  p.scales =
      random_bytes(static_cast<size_t>(n) * static_cast<size_t>(k / 32), 4, low_scale, high_scale);
  p.x = random_bf16(static_cast<size_t>(rows * k), 5);
  p.residual = random_bf16(static_cast<size_t>(rows * n), 6);
  for (const bf16 b : random_bf16(static_cast<size_t>(n), 7)) p.bias.push_back(to_float(b));
  return p;
}

struct Options {
  bool with_bias = true, with_residual = false, swiglu = false, overlap = false;
};

std::vector<bf16> run(const Problem& p, const Options& options, const LinearStreamConfig& config) {
  std::vector<uint8_t> codes = p.codes, scales = p.scales;
  mxfp4::prepack(p.n, p.k, codes.data(), scales.data());
  const cuda::DeviceBuffer<uint8_t> d_codes(codes), d_scales(scales);
  const cuda::DeviceBuffer<bf16> x(p.x), residual(p.residual);
  const cuda::DeviceBuffer<float> bias(p.bias);
  const int out_cols = options.swiglu ? p.n / 2 : p.n;
  // Poison, so that an output nobody wrote shows.
  const cuda::DeviceBuffer<bf16> out(
      std::vector<bf16>(static_cast<size_t>(p.rows * out_cols), bf16{0x7fff}));
  LinearStreamArgs args;
  args.x = x.data();
  args.codes = d_codes.data();
  args.scales = d_scales.data();
  if (options.with_bias) args.bias = bias.data();
  if (options.with_residual) args.residual = residual.data();
  args.out = out.data();
  args.rows = p.rows, args.n = p.n, args.k = p.k;
  args.x_stride = p.k, args.residual_stride = p.n, args.out_stride = out_cols;
  args.swiglu = options.swiglu;
  const cuda::Stream stream;
  MOXIE_CUDA_CHECK(prepare_linear_stream());
  MOXIE_CUDA_CHECK(launch_linear_stream(args, config, options.overlap, stream.get()));
  stream.synchronize();
  return out.to_host();
}

std::vector<bf16> run(const Problem& p, const Options& options) {
  return run(p, options, select_linear_stream_config(p.rows, p.n, p.k, 132));
}

struct Exact {
  double value = 0, abs_sum = 0;
};
Exact exact(const Problem& p, int row, int feature, bool with_bias) {
  Exact sum;
  for (int i = 0; i < p.k; ++i) {
    const size_t block =
        static_cast<size_t>(feature) * static_cast<size_t>(p.k / 32) + static_cast<size_t>(i / 32);
    const double w = to_float(mxfp4::decode_element<bf16>(
        mxfp4::code_at(p.codes.data() + 16 * block, i % 32), p.scales[block]));
    const double product = w * to_float(p.x[static_cast<size_t>(row * p.k + i)]);
    sum.value += product;
    sum.abs_sum += std::fabs(product);
  }
  if (with_bias) sum.value += p.bias[static_cast<size_t>(feature)];
  return sum;
}

double half_ulp(double value) {  // of bf16
  return std::ldexp(1.0, std::max(std::ilogb(std::max(std::fabs(value), 0x1p-126)), -126) - 8);
}

class LinearStream : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  }
  void expect_within_bound(const Problem& p, const Options& options) {
    expect_within_bound(p, options, run(p, options));
  }
  void expect_within_bound(const Problem& p, const Options& options, const std::vector<bf16>& got) {
    for (int row = 0; row < p.rows; ++row)
      for (int f = 0; f < p.n; ++f) {
        const Exact want = exact(p, row, f, options.with_bias);
        double value = want.value, bound = (p.k + 16) * 0x1p-23 * want.abs_sum;
        bound += half_ulp(value) * (1 + 0x1p-6);
        const size_t i = static_cast<size_t>(row * p.n + f);
        if (options.with_residual) {
          value += to_float(p.residual[i]);
          bound += half_ulp(value) * (1 + 0x1p-6) + half_ulp(bound);
        }
        ASSERT_LE(std::fabs(to_float(got[i]) - value), bound)
            << p.rows << " x " << p.n << " x " << p.k << " row " << row << " feature " << f;
      }
  }
};

TEST_F(LinearStream, StaysWithinItsBoundForEveryNumberOfRowsAndKindOfRemainder) {
  for (const auto& [n, k] : {std::pair{16, 32},
                             {48, 64},
                             {80, 96},
                             {64, 192},
                             {144, 608},
                             {208, 1120},
                             {1024, 1696},
                             {4096, 3552}})
    for (const int rows : {1, 2, 7, 8, 9, 15, 16})
      expect_within_bound(random_problem(rows, n, k), {});
  for (const int rows : {1, 16}) expect_within_bound(random_problem(rows, 5760, 2880), {});
  expect_within_bound(random_problem(3, 144, 544), {true, true, false});
  expect_within_bound(random_problem(3, 144, 544), {false, true, false});
}

// One code at a time, in every place of two tiles, two panels and their remainders; x picks
// columns.
TEST_F(LinearStream, EveryCodeTimesEveryScaleArrivesFromEveryPlace) {
  constexpr int kN = 80, kK = 608;
  for (int scale = 0; scale < 255; ++scale) {
    Problem p = random_problem(16, kN, kK, scale, scale);
    // Row r of x is one at column 16 * j + r for one j, which a run after the other moves on.
    for (int j = scale % 6; j < kK / 16; j += 6) {
      std::fill(p.x.begin(), p.x.end(), bf16{});
      for (int r = 0; r < 16; ++r) p.x[static_cast<size_t>(r * kK + 16 * j + r)] = to_bf16(1.0f);
      const std::vector<bf16> got = run(p, {false, false, false});
      for (int r = 0; r < 16; ++r)
        for (int f = 0; f < kN; ++f) {
          const int i = 16 * j + r;
          const size_t block = static_cast<size_t>(f * (kK / 32) + i / 32);
          const float want = to_float(mxfp4::decode_element<bf16>(
              mxfp4::code_at(p.codes.data() + 16 * block, i % 32), p.scales[block]));
          ASSERT_EQ(to_float(got[static_cast<size_t>(r * kN + f)]), want)
              << "scale " << scale << " column " << i << " feature " << f;
        }
    }
  }
}

TEST_F(LinearStream, AScaleOf255GivesNaNInItsRowOnly) {
  Problem p = random_problem(2, 64, 192);
  p.scales[5 * 6 + 3] = 255;
  const std::vector<bf16> got = run(p, {});
  for (int row = 0; row < 2; ++row)
    for (int f = 0; f < 64; ++f)
      EXPECT_EQ(std::isnan(to_float(got[static_cast<size_t>(row * 64 + f)])), f == 5) << f;
}

TEST_F(LinearStream, SwigluOfGateAndLinearRowsBesideEachOther) {
  for (const int rows : {1, 8, 13}) {
    const Problem p = random_problem(rows, 160, 544);
    const std::vector<bf16> got = run(p, {true, false, true});
    for (int row = 0; row < rows; ++row)
      for (int j = 0; j < 80; ++j) {
        const Exact gate = exact(p, row, 2 * j, true), linear = exact(p, row, 2 * j + 1, true);
        const double g = std::min(gate.value, 7.0), u = std::clamp(linear.value, -7.0, 7.0);
        const double want = g / (1 + std::exp(-1.702 * g)) * (u + 1);
        // |d(g sigmoid(alpha g))| <= 1.2 |dg|; |g sigmoid| <= 7, |u + 1| <= 8.
        const double error = (p.k + 16) * 0x1p-23;
        const double bound = half_ulp(want) * 1.02 + 1.2 * 8 * error * gate.abs_sum +
                             7 * error * linear.abs_sum + std::fabs(want) * 0x1p-19;
        ASSERT_LE(std::fabs(to_float(got[static_cast<size_t>(row * 80 + j)]) - want), bound);
      }
  }
}

TEST_F(LinearStream, ARowsBitsDoNotDependOnItsBatchNorOnTheRun) {
  const Problem all = random_problem(16, 2880, 2880);
  const std::vector<bf16> together = run(all, {});
  EXPECT_TRUE(run(all, {}) == together);
  for (const int row : {0, 9, 15}) {
    Problem one = all;
    one.rows = 1;
    one.x.assign(all.x.begin() + row * 2880, all.x.begin() + (row + 1) * 2880);
    const std::vector<bf16> alone = run(one, {});
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + row * 2880)) << row;
  }
}

// Every way to divide the work: clusters, parts, strips a warp, slots smaller than panels and parts
// that begin inside them, one round and several. Those with the same parts give the same bits.
TEST_F(LinearStream, EveryConfigStaysWithinTheBoundAndOnlyThePartsChangeBits) {
  for (const auto& [rows, n, k] : {std::tuple{1, 208, 1120}, {7, 1040, 1696}, {16, 2096, 1344}}) {
    const Problem p = random_problem(rows, n, k);
    for (const int parts : {1, 2, 4, 6, 12, 16}) {
      std::vector<bf16> first;
      for (const int cluster : {1, 2, 4})
        for (const int strips : {1, 2})
          for (const int slot_steps : {1, 2, 3, 5, 9})
            // Few SMs, so that there are many rounds.
            for (const int num_sms : {4, 132}) {
              LinearStreamConfig config;
              config.parts = parts, config.cluster = cluster, config.strips_per_warp = strips;
              config.slot_steps = slot_steps;
              if (parts % cluster != 0 || parts > 16 * cluster || parts > (k + 63) / 64) continue;
              config = linear_stream_config(config, rows, n, k, num_sms, 100 * 1024);
              if (config.slots == 0) continue;
              const std::vector<bf16> got = run(p, {}, config);
              if (first.empty()) {
                first = got;
                expect_within_bound(p, {}, got);
              }
              ASSERT_TRUE(got == first) << to_string(config);
            }
      EXPECT_FALSE(first.empty());
    }
  }
}

TEST_F(LinearStream, WeightsAskedForBeforeTheKernelBeforeHasEndedChangeNothing) {
  const Problem p = random_problem(5, 2880, 2880);
  EXPECT_TRUE(run(p, {true, true, false, true}) == run(p, {true, true, false, false}));
}

TEST(LinearStreamConfig, PartsDependOnTheWeightAlone) {
  for (const auto& [n, k] : {std::pair{2880, 2880},
                             {5760, 2880},
                             {8192, 8192},
                             {16, 32},
                             {65536, 64},
                             {64, 65536},
                             {65536, 65536}})
    for (int rows = 1; rows <= 16; ++rows) {
      if (!supports_linear_stream(rows, n, k)) continue;
      const LinearStreamConfig config = select_linear_stream_config(rows, n, k, 132);
      EXPECT_EQ(config.parts, select_linear_stream_config(1, n, k, 78).parts);
      EXPECT_LE(config.shared_bytes, 227 * 1024) << to_string(config);
      EXPECT_LE(config.parts, (k + 63) / 64) << to_string(config);
      EXPECT_EQ(config.parts % config.cluster, 0) << to_string(config);
    }
  for (const int k : {2880, 8192}) EXPECT_TRUE(supports_linear_stream(16, 8192, k)) << k;
  EXPECT_FALSE(supports_linear_stream(16, 64, 65536));
  EXPECT_FALSE(supports_linear_stream(0, 64, 64));
  EXPECT_FALSE(supports_linear_stream(17, 64, 64));
  EXPECT_FALSE(supports_linear_stream(1, 24, 64));
  EXPECT_FALSE(supports_linear_stream(1, 64, 48));
}

}  // namespace
}  // namespace moxie::hopper
