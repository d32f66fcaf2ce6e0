#include "hopper/moe_grouped.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cuda/device.h"
#include "hopper/route.h"
#include "hopper/test_support.h"
#include "mxfp4/block.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

size_t idx(int64_t i) { return static_cast<size_t>(i); }

struct Matrices {  // of all experts, checkpoint's order
  int experts, n, k;
  std::vector<uint8_t> codes, scales;
  std::vector<float> bias;
  double weight(int e, int row, int i) const {
    const size_t block = (idx(e) * idx(n) + idx(row)) * idx(k / 32) + idx(i / 32);
    return to_float(mxfp4::decode_element<bf16>(mxfp4::code_at(codes.data() + 16 * block, i % 32),
                                                scales[block]));
  }
};

Matrices random_matrices(int experts, int n, int k, unsigned seed, int low_scale, int high_scale) {
  Matrices m{experts, n, k, {}, {}, {}};
  m.codes = random_bytes(idx(experts) * idx(n) * idx(k / 2), seed, 0, 255);
  m.scales = random_bytes(idx(experts) * idx(n) * idx(k / 32), seed + 1, low_scale, high_scale);
  for (const bf16 b : random_bf16(idx(experts) * idx(n), seed + 2)) m.bias.push_back(to_float(b));
  return m;
}

struct Problem {
  MoeSizes sizes;
  Matrices gate_up, down;
  std::vector<bf16> x, residual, logits;
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Problem random_problem(const MoeSizes& sizes, int low_scale = 116, int high_scale = 122) {
  Problem p{sizes, {}, {}, {}, {}, {}, {}, {}};
  p.gate_up =
      random_matrices(sizes.num_experts, 2 * sizes.inner, sizes.hidden, 1, low_scale, high_scale);
  p.down = random_matrices(sizes.num_experts, sizes.hidden, sizes.inner, 11, low_scale, high_scale);
  p.x = random_bf16(idx(sizes.rows * sizes.hidden), 21);
  p.residual = random_bf16(idx(sizes.rows * sizes.hidden), 22);
  p.logits = random_bf16(idx(sizes.rows * sizes.all_experts), 23);
  std::mt19937 random(24);
  std::vector<int32_t> experts(idx(sizes.all_experts));
  std::iota(experts.begin(), experts.end(), 0);
  for (int64_t r = 0; r < sizes.rows; ++r) {
    std::shuffle(experts.begin(), experts.end(), random);
    for (int i = 0; i < sizes.experts_per_token; ++i) {
      p.ids.push_back(experts[idx(i)]);
      p.weights.push_back(std::uniform_real_distribution<float>(0.05f, 0.5f)(random));
    }
  }
  return p;
}

using Shape = GroupedGemmTiles;
constexpr std::pair<Shape, int> kAllShapes[] = {{Shape::kEightWarps, 8},  {Shape::kEightWarps, 16},
                                                {Shape::kEightWarps, 32}, {Shape::kOneTile, 16},
                                                {Shape::kOneTile, 64},    {Shape::kTwoTiles, 32},
                                                {Shape::kTwoTiles, 64},   {Shape::kManyRows, 192}};

struct Options {
  bool from_logits = false, with_residual = false;
  GroupedGemmTiles shape = GroupedGemmTiles::kOneTile;
  int tile_rows = 0;  // 0: as select_moe_grouped_config says
  int runs = 1;
};

std::vector<bf16> run(const Problem& p, const Options& options = {}) {
  Matrices up = p.gate_up, down = p.down;
  for (Matrices* m : {&up, &down})
    for (int e = 0; e < m->experts; ++e)
      mxfp4::prepack(m->n, m->k, m->codes.data() + idx(e) * idx(m->n) * idx(m->k / 2),
                     m->scales.data() + idx(e) * idx(m->n) * idx(m->k / 32));
  const cuda::DeviceBuffer<uint8_t> up_codes(up.codes), up_scales(up.scales);
  const cuda::DeviceBuffer<uint8_t> down_codes(down.codes), down_scales(down.scales);
  const cuda::DeviceBuffer<float> up_bias(up.bias), down_bias(down.bias), weights(p.weights);
  const cuda::DeviceBuffer<bf16> x(p.x), residual(p.residual), logits(p.logits);
  const cuda::DeviceBuffer<int32_t> ids(p.ids);
  // Poison, so that an output nobody wrote shows.
  const cuda::DeviceBuffer<bf16> out(
      std::vector<bf16>(idx(p.sizes.rows * p.sizes.hidden), bf16{0x7fff}));
  GroupedGemmConfig config = select_moe_grouped_config(p.sizes, 132);
  if (options.tile_rows > 0)
    config =
        grouped_gemm_config(options.shape, options.tile_rows, p.sizes.hidden, p.sizes.inner, 132);
  const cuda::DeviceBuffer<uint8_t> workspace(
      std::vector<uint8_t>(idx(moe_grouped_workspace_bytes(p.sizes, config)), 0xff));
  MoeGroupedArgs args;
  args.sizes = p.sizes;
  args.x = x.data(), args.x_stride = p.sizes.hidden;
  if (options.from_logits) {
    args.logits = logits.data(), args.logits_stride = p.sizes.all_experts;
  } else {
    args.expert_ids = ids.data(), args.weights = weights.data();
  }
  args.gate_up_codes = up_codes.data(), args.gate_up_scales = up_scales.data();
  args.down_codes = down_codes.data(), args.down_scales = down_scales.data();
  args.gate_up_bias = up_bias.data(), args.down_bias = down_bias.data();
  if (options.with_residual) args.residual = residual.data();
  args.residual_stride = p.sizes.hidden;
  args.out = out.data(), args.out_stride = p.sizes.hidden;
  const cuda::Stream stream;
  MOXIE_CUDA_CHECK(prepare_grouped_gemm());
  for (int i = 0; i < options.runs; ++i)
    MOXIE_CUDA_CHECK(launch_moe_grouped(args, config, workspace.data(), stream.get()));
  stream.synchronize();
  return out.to_host();
}

double half_ulp(double value) {  // of bf16
  return std::ldexp(1.0, std::max(std::ilogb(std::max(std::fabs(value), 0x1p-126)), -126) - 8);
}

// A value and a bound of what a kernel within the contract may differ from it.
struct Bounded {
  double value = 0, error = 0;
};

// Product 1 of one row and expert.
std::vector<Bounded> inner_values(const Problem& p, int64_t row, int e) {
  const int hidden = p.sizes.hidden;
  std::vector<Bounded> z(idx(2 * p.sizes.inner)), a(idx(p.sizes.inner));
  for (int f = 0; f < 2 * p.sizes.inner; ++f) {
    double sum = 0, magnitude = 0;
    for (int i = 0; i < hidden; ++i) {
      const double product = p.gate_up.weight(e, f, i) * to_float(p.x[idx(row * hidden + i)]);
      sum += product, magnitude += std::fabs(product);
    }
    const double bias = p.gate_up.bias[idx(e) * idx(2 * p.sizes.inner) + idx(f)];
    z[idx(f)] = {sum + bias, (hidden + 16) * 0x1p-23 * magnitude + 0x1p-23 * std::fabs(bias)};
  }
  for (int j = 0; j < p.sizes.inner; ++j) {
    const Bounded gate = z[idx(2 * j)], linear = z[idx(2 * j + 1)];
    const double g = std::min(gate.value, 7.0), u = std::clamp(linear.value, -7.0, 7.0);
    const double value = g / (1 + std::exp(-1.702 * g)) * (u + 1);
    // |d(g sigmoid(alpha g))| <= 1.2 |dg|; |g sigmoid| <= 7, |u + 1| <= 8.
    double error = 1.2 * 8 * gate.error + 7 * linear.error + std::fabs(value) * 0x1p-19;
    error += half_ulp(std::fabs(value) + error);
    a[idx(j)] = {value, error};
  }
  return a;
}

void expect_within_bound(const Problem& p, const Options& options, int64_t row_step = 1) {
  const std::vector<bf16> got = run(p, options);
  const MoeSizes& s = p.sizes;
  for (int64_t row = 0; row < s.rows; row += row_step) {
    std::vector<Bounded> sums(idx(s.hidden));
    for (int i = 0; i < s.experts_per_token; ++i) {
      const size_t entry = idx(row * s.experts_per_token + i);
      const int e = p.ids[entry] - s.first_expert;
      if (p.ids[entry] < 0 || e < 0 || e >= s.num_experts) continue;
      const std::vector<Bounded> a = inner_values(p, row, e);
      for (int f = 0; f < s.hidden; ++f) {
        double sum = 0, magnitude = 0, error = 0;
        for (int j = 0; j < s.inner; ++j) {
          const double w = p.down.weight(e, f, j);
          sum += a[idx(j)].value * w;
          magnitude += std::fabs(a[idx(j)].value * w);
          error += a[idx(j)].error * std::fabs(w);
        }
        const double bias = p.down.bias[idx(e) * idx(s.hidden) + idx(f)];
        const double value = (sum + bias) * p.weights[entry];
        error += (s.inner + 16) * 0x1p-23 * magnitude + 0x1p-22 * std::fabs(sum + bias);
        error *= std::fabs(p.weights[entry]);
        sums[idx(f)].value += value;
        sums[idx(f)].error += error + half_ulp(std::fabs(value) + error);
      }
    }
    for (int f = 0; f < s.hidden; ++f) {
      Bounded want = sums[idx(f)];
      want.error += half_ulp(std::fabs(want.value) + want.error) * (1 + 0x1p-6);
      if (options.with_residual) {
        want.value += to_float(p.residual[idx(row * s.hidden + f)]);
        want.error += half_ulp(std::fabs(want.value) + want.error) * (1 + 0x1p-6);
      }
      ASSERT_LE(std::fabs(to_float(got[idx(row * s.hidden + f)]) - want.value), want.error)
          << s.rows << " rows, hidden " << s.hidden << ", inner " << s.inner << ", row " << row
          << " feature " << f << " tiles " << static_cast<int>(options.shape) << " x "
          << options.tile_rows;
    }
  }
}

MoeSizes sizes(int64_t rows, int hidden, int inner, int experts, int per_token) {
  return {rows, hidden, inner, experts, experts, 0, per_token};
}

class MoeGrouped : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(MoeGrouped, StaysWithinItsBoundForEveryNumberOfRowsOfAnExpert) {
  // One expert gets all rows: every N, its edges, and several row tiles.
  for (const int rows : {1,  7,  8,  9,  16,  17,  24,  32,  33,  48,  49,
                         64, 65, 96, 97, 128, 129, 160, 161, 192, 193, 400}) {
    const Problem p = random_problem(sizes(rows, 96, 64, 1, 1));
    for (const auto& [shape, tile_rows] : kAllShapes)
      expect_within_bound(p, {false, rows % 2 == 0, shape, tile_rows});
  }
}

TEST_F(MoeGrouped, StaysWithinItsBoundForRemaindersOfBothDimensions) {
  for (const auto& [hidden, inner] :
       {std::pair{32, 32}, {64, 32}, {160, 224}, {96, 672}, {672, 96}, {608, 1216}, {1184, 352}})
    for (const auto& [shape, tile_rows] : kAllShapes)
      expect_within_bound(random_problem(sizes(37, hidden, inner, 5, 3)),
                          {false, true, shape, tile_rows}, 3);
}

TEST_F(MoeGrouped, StaysWithinItsBoundAtTheRealSizes) {
  expect_within_bound(random_problem(sizes(64, 2880, 2880, 8, 4)), {}, 31);
}

TEST_F(MoeGrouped, SmallAndLargeScales) {
  // Scales of the second product, whose outputs show as they are: small ones, both sides of what
  // decode_word() takes, large ones.
  for (const auto& [low, high] : {std::pair{0, 3}, {125, 131}, {200, 228}}) {
    Problem p = random_problem(sizes(20, 64, 96, 2, 1), 116, 122);
    for (uint8_t& s : p.down.scales) s = static_cast<uint8_t>(low + s % (high - low + 1));
    std::fill(p.down.bias.begin(), p.down.bias.end(), 0.0f);
    std::fill(p.weights.begin(), p.weights.end(), 1.0f);
    for (const auto& [shape, tile_rows] : kAllShapes)
      expect_within_bound(p, {false, false, shape, tile_rows});
  }
}

TEST_F(MoeGrouped, AdversarialRouting) {
  const MoeSizes s = sizes(131, 128, 64, 16, 4);
  Problem p = random_problem(s);
  const std::vector<int32_t> shuffled = p.ids;
  for (size_t i = 0; i < p.ids.size(); ++i)
    p.ids[i] = static_cast<int32_t>(i % 4);  // four take all
  expect_within_bound(p, {}, 7);
  for (size_t i = 0; i < p.ids.size(); ++i)  // most of a row's entries are sentinels
    p.ids[i] = i % 4 == 1 ? shuffled[i] : (i % 4 == 2 ? -1 : 1 << 30);
  expect_within_bound(p, {}, 7);
  std::fill(p.ids.begin(), p.ids.end(), -1);  // nobody
  expect_within_bound(p, {false, true});
  p.ids = shuffled;  // the upper half of the experts lives elsewhere
  p.sizes.num_experts = 8;
  expect_within_bound(p, {}, 7);
}

TEST_F(MoeGrouped, TheSameBitsInEveryRunAndEveryBatch) {
  Problem all = random_problem(sizes(300, 416, 288, 8, 4));
  const std::vector<bf16> together = run(all, {true, true, Shape::kOneTile, 0, 3});
  EXPECT_TRUE(run(all, {true, true}) == together);
  for (const auto& [shape, tile_rows] : kAllShapes)
    EXPECT_TRUE(run(all, {true, true, shape, tile_rows}) == together)
        << static_cast<int>(shape) << " x " << tile_rows;
  Problem some = all;
  some.sizes.rows = 5;
  const std::vector<bf16> few = run(some, {true, true});
  EXPECT_TRUE(std::equal(few.begin(), few.end(), together.begin()));
}

struct Routed {
  std::vector<int32_t> ids, sources, positions, offsets;
  std::vector<float> weights;
  std::vector<RowTile> tiles;
};
Routed route(const std::vector<bf16>& logits, int rows, int experts, int per_token, int tile_rows) {
  const cuda::DeviceBuffer<bf16> d_logits(logits);
  const size_t entries = idx(rows) * idx(per_token);
  const cuda::DeviceBuffer<int32_t> ids(entries), sources(entries), positions(entries);
  const cuda::DeviceBuffer<int32_t> offsets(idx(experts) + 1), num(1);
  const cuda::DeviceBuffer<int32_t> histograms(idx(route_chunks(rows)) * idx(experts));
  const cuda::DeviceBuffer<float> weights(entries);
  const auto tiles = idx(max_row_tiles(static_cast<int64_t>(entries), experts, tile_rows));
  const cuda::DeviceBuffer<RowTile> row_tiles(tiles);
  const cuda::DeviceBuffer<uint32_t> finished(tiles), tickets(1);
  RouteListArgs args;
  args.logits = d_logits.data(), args.logits_stride = experts, args.rows = rows;
  args.all_experts = args.num_experts = experts, args.experts_per_token = per_token;
  args.tile_rows = tile_rows;
  args.expert_ids = ids.data(), args.weights = weights.data(), args.sources = sources.data();
  args.row_tiles = row_tiles.data(), args.num_row_tiles = num.data();
  args.finished = finished.data(), args.tickets = tickets.data();
  args.row_offsets = offsets.data(), args.positions = positions.data();
  args.histograms = histograms.data();
  const cuda::Stream stream;
  MOXIE_CUDA_CHECK(launch_route(args, stream.get()));
  stream.synchronize();
  Routed r{ids.to_host(),     sources.to_host(), positions.to_host(),
           offsets.to_host(), weights.to_host(), row_tiles.to_host()};
  r.tiles.resize(idx(num.to_host()[0]));
  return r;
}

TEST_F(MoeGrouped, RoutesAsTheContractSays) {
  for (const auto& [rows, experts, per_token] : {std::tuple{1, 1, 1},
                                                 {1, 128, 4},
                                                 {31, 32, 4},
                                                 {33, 32, 4},
                                                 {500, 128, 4},
                                                 {2049, 512, 8},
                                                 {5000, 100, 5}}) {
    std::vector<bf16> logits = random_bf16(idx(rows) * idx(experts), 5);
    for (size_t i = 0; i < logits.size(); i += 3) logits[i] = to_bf16(i % 2 == 0 ? 0.0f : -0.0f);
    for (size_t i = 1; i < logits.size(); i += 7) logits[i] = bf16{0x7fc0};
    for (size_t i = 5; i < logits.size(); i += 11) logits[i] = bf16{0xff80};  // -infinity
    const Routed got = route(logits, rows, experts, per_token, 16);
    std::vector<std::vector<int32_t>> lists(idx(experts));
    for (int row = 0; row < rows; ++row) {
      const bf16* l = logits.data() + idx(row) * idx(experts);
      std::vector<int32_t> order(idx(experts));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        const float x = to_float(l[a]), y = to_float(l[b]);
        if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
        return x > y;
      });
      double sum = 0;
      for (int i = 0; i < per_token; ++i)
        sum += std::exp(static_cast<double>(to_float(l[order[idx(i)]])) - to_float(l[order[0]]));
      for (int i = 0; i < per_token; ++i) {
        const size_t entry = idx(row) * idx(per_token) + idx(i);
        ASSERT_EQ(got.ids[entry], order[idx(i)]) << rows << " row " << row << " choice " << i;
        lists[idx(order[idx(i)])].push_back(static_cast<int32_t>(entry));
        const double want =
            std::exp(static_cast<double>(to_float(l[order[idx(i)]])) - to_float(l[order[0]])) / sum;
        if (std::isnan(want))
          ASSERT_TRUE(std::isnan(got.weights[entry]));
        else
          ASSERT_LE(std::fabs(got.weights[entry] - want), half_ulp(want) * (1 + 0x1p-10));
      }
    }
    size_t position = 0, tile = 0;
    for (int e = 0; e < experts; ++e) {
      const std::vector<int32_t>& list = lists[idx(e)];
      ASSERT_EQ(got.offsets[idx(e)], static_cast<int32_t>(position));
      for (size_t i = 0; i < list.size(); i += 16, ++tile) {
        ASSERT_LT(tile, got.tiles.size());
        EXPECT_EQ(got.tiles[tile].expert, e);
        EXPECT_EQ(got.tiles[tile].begin, static_cast<int32_t>(position + i));
        EXPECT_EQ(got.tiles[tile].rows,
                  static_cast<int32_t>(std::min<size_t>(16, list.size() - i)));
      }
      for (const int32_t entry : list) {
        ASSERT_EQ(got.sources[position], entry) << "expert " << e;
        ASSERT_EQ(got.positions[idx(entry)], static_cast<int32_t>(position));
        ++position;
      }
    }
    EXPECT_EQ(got.offsets[idx(experts)], static_cast<int32_t>(position));
    EXPECT_EQ(tile, got.tiles.size());
  }
}

TEST(GroupedGemmConfig, FitsIntoSharedMemory) {
  for (const int k : {32, 96, 160, 192, 544, 640, 768, 2880, 8192})
    for (const double rows : {1.0, 6.0, 7.0, 12.0, 13.0, 24.0, 25.0, 80.0, 81.0, 512.0}) {
      const GroupedGemmConfig config = select_grouped_gemm_config(rows, 32, k, 2880, 132);
      EXPECT_LE(config.shared_bytes, 227 * 1024) << to_string(config);
      EXPECT_GE(config.code_slots, 2) << to_string(config);
    }
  EXPECT_FALSE(supports_grouped_gemm(24, 64));
  EXPECT_FALSE(supports_grouped_gemm(64, 48));
}

}  // namespace
}  // namespace moxie::hopper
