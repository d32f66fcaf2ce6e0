#include "hopper/moe_grouped.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cuda/device.h"
#include "hopper/moe_test_support.h"
#include "hopper/route.h"

namespace moxie::hopper {
namespace {

using Shape = GroupedGemmTiles;
constexpr std::pair<Shape, int> kAllShapes[] = {
    {Shape::kEightWarps, 8},   {Shape::kEightWarps, 16}, {Shape::kEightWarps, 32},
    {Shape::kFourGroups, 16},  {Shape::kFourGroups, 32}, {Shape::kThreeGroups, 24},
    {Shape::kThreeGroups, 48}, {Shape::kMoreRows, 96},   {Shape::kManyRows, 192}};

struct Options {
  bool from_logits = false, with_residual = false;
  GroupedGemmTiles shape = GroupedGemmTiles::kManyRows;
  int tile_rows = 0;  // 0: as select_moe_grouped_config says
  int runs = 1;
};

std::vector<bf16> run(const Problem& p, const Options& options = {}) {
  const OnGpu gpu(p, options.from_logits, options.with_residual);
  GroupedGemmConfig config = select_moe_grouped_config(p.sizes, 132);
  if (options.tile_rows > 0)
    config =
        grouped_gemm_config(options.shape, options.tile_rows, p.sizes.hidden, p.sizes.inner, 132);
  const cuda::DeviceBuffer<uint8_t> workspace(
      std::vector<uint8_t>(idx(moe_grouped_workspace_bytes(p.sizes, config)), 0xff));
  const cuda::Stream stream;
  MOXIE_CUDA_CHECK(prepare_grouped_gemm());
  for (int i = 0; i < options.runs; ++i)
    MOXIE_CUDA_CHECK(launch_moe_grouped(gpu.args, config, workspace.data(), stream.get()));
  stream.synchronize();
  return gpu.out.to_host();
}

void expect_within_bound(const Problem& p, const Options& options, int64_t row_step = 1) {
  expect_within_moe_bound(p, run(p, options), options.with_residual,
                          "tiles " + std::to_string(static_cast<int>(options.shape)) + " x " +
                              std::to_string(options.tile_rows),
                          row_step);
}

class MoeGrouped : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(MoeGrouped, StaysWithinItsBoundForEveryNumberOfRowsOfAnExpert) {
  // One expert gets all rows: every N, its edges, and several row tiles.
  for (const int rows :
       {1,  7,  8,  9,  16,  17,  24,  25,  32,  33,  40,  41,  48,  49,  55,  64,  65,
        80, 81, 96, 97, 112, 113, 128, 129, 144, 145, 160, 161, 176, 177, 192, 193, 400}) {
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
  const std::vector<bf16> together = run(all, {true, true, Shape::kManyRows, 0, 3});
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
constexpr int kTileRows = 32, kRowStep = 8;
Routed route(const std::vector<bf16>& logits, int rows, int experts, int per_token) {
  const cuda::DeviceBuffer<bf16> d_logits(logits);
  const size_t entries = idx(rows) * idx(per_token);
  const cuda::DeviceBuffer<int32_t> ids(entries), sources(entries), positions(entries);
  const cuda::DeviceBuffer<int32_t> offsets(idx(experts) + 1), num(1);
  const cuda::DeviceBuffer<int32_t> histograms(idx(route_chunks(rows)) * idx(experts));
  const cuda::DeviceBuffer<float> weights(entries);
  const auto tiles = idx(max_row_tiles(static_cast<int64_t>(entries), experts, kTileRows));
  const cuda::DeviceBuffer<RowTile> row_tiles(tiles);
  const cuda::DeviceBuffer<uint32_t> finished(tiles), tickets(1);
  RouteListArgs args;
  args.logits = d_logits.data(), args.logits_stride = experts, args.rows = rows;
  args.all_experts = args.num_experts = experts, args.experts_per_token = per_token;
  args.tile_rows = kTileRows, args.row_step = kRowStep;
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
    const Routed got = route(logits, rows, experts, per_token);
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
      const auto of_expert = static_cast<int32_t>(list.size());
      const int32_t each = even_tile_rows(of_expert, kTileRows, kRowStep);
      for (int32_t i = 0; i < of_expert; i += each, ++tile) {
        ASSERT_LT(tile, got.tiles.size());
        EXPECT_EQ(got.tiles[tile].expert, e);
        EXPECT_EQ(got.tiles[tile].begin, static_cast<int32_t>(position) + i);
        EXPECT_EQ(got.tiles[tile].rows, std::min(each, of_expert - i));
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

TEST(EvenTileRows, AreMultiplesThatNeedNoMoreTilesThanFullOnes) {
  EXPECT_EQ(even_tile_rows(520, 192, 16), 176);  // and 168
  EXPECT_EQ(even_tile_rows(2048, 192, 16), 192);
  EXPECT_EQ(even_tile_rows(193, 192, 16), 112);
  EXPECT_EQ(even_tile_rows(33, 32, 32), 32);
  EXPECT_GT(even_tile_rows(0, 192, 16), 0);  // something to divide by
  for (const auto& [tile_rows, row_step] :
       {std::pair{8, 8}, {16, 16}, {64, 64}, {128, 16}, {192, 16}, {320, 64}})
    for (int rows = 1; rows <= 1000; ++rows) {
      const int each = even_tile_rows(rows, tile_rows, row_step);
      ASSERT_EQ(each % row_step, 0) << rows;
      ASSERT_LE(each, tile_rows) << rows;
      ASSERT_EQ((rows + each - 1) / each, (rows + tile_rows - 1) / tile_rows) << rows;
    }
}

TEST(MoeGroupedWorkspace, IsNeverLargerForFewerRows) {
  // From 2049 rows on routing has fewer chunks than for 2048.
  for (const auto& [hidden, inner, experts, per_token] :
       {std::tuple{1024, 512, 512, 1}, {2880, 2880, 128, 4}, {64, 32, 512, 1}}) {
    MoeSizes s = sizes(1, hidden, inner, experts, per_token);
    const GroupedGemmConfig config = grouped_gemm_config(Shape::kEightWarps, 8, hidden, inner, 132);
    int64_t before = 0;
    for (const int rows : {1, 31, 32, 33, 1000, 2016, 2047, 2048, 2049, 2080, 2100, 4096, 4097}) {
      s.rows = rows;
      const int64_t bytes = moe_grouped_workspace_bytes(s, config);
      EXPECT_GE(bytes, before) << rows << " rows, " << experts << " experts";
      before = bytes;
    }
  }
}

TEST(GroupedGemmConfig, FitsIntoSharedMemory) {
  for (const int k : {32, 96, 160, 192, 544, 640, 768, 2880, 8192})
    for (const double rows : {1.0, 6.0, 7.0, 20.0, 21.0, 40.0, 41.0, 80.0, 81.0, 512.0})
      for (const Activations activations : {Activations::kBf16, Activations::kFp8}) {
        const GroupedGemmConfig config =
            select_grouped_gemm_config(rows, 32, k, 2880, 132, activations);
        EXPECT_LE(config.shared_bytes, 227 * 1024) << to_string(config);
        EXPECT_GE(config.code_slots, 2) << to_string(config);
        EXPECT_GE(config.x_stages, 2) << to_string(config);
        EXPECT_EQ(is_fp8(config.shape), activations == Activations::kFp8);
      }
  EXPECT_FALSE(supports_grouped_gemm(24, 64));
  EXPECT_FALSE(supports_grouped_gemm(64, 48));
}

}  // namespace
}  // namespace moxie::hopper
