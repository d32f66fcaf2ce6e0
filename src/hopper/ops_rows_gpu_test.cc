// grouped_gemm and route as a program calls them, on a GPU, against the oracles.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "base/thread_pool.h"
#include "cuda/device.h"
#include "hopper/ops.h"
#include "hopper/test_support.h"
#include "ops/reference/grouped_gemm.h"
#include "ops/reference/random.h"
#include "ops/reference/route.h"

namespace moxie::hopper {
namespace {

using Activation = ::moxie::GroupedGemmArgs::Activation;

// Entries of experts in the memory of the host: how many each has, and which lists there are.
struct Entries {
  RandomMxfp4 weight;
  std::vector<int32_t> row_offsets, gather, scatter;
  std::vector<float> row_weights, bias;
  std::vector<bf16> x;
  ::moxie::GroupedGemmArgs args;

  Entries(const std::vector<int32_t>& counts, int64_t n, int64_t k, bool gathers, bool scatters,
          bool weighs, Activation activation = Activation::kNone, uint8_t max_scale = 122)
      : weight(static_cast<int64_t>(counts.size()), n, k, 71, max_scale - 4, max_scale),
        row_offsets(counts.size() + 1),
        bias(counts.size() * static_cast<size_t>(n)) {
    std::partial_sum(counts.begin(), counts.end(), row_offsets.begin() + 1);
    // Three entries behind the last expert's.
    const int64_t rows = row_offsets.back() + 3;
    const int64_t x_rows = gathers ? 2 * rows / 3 + 1 : rows, out_rows = rows + (scatters ? 5 : 0);
    std::mt19937 random(11);
    if (gathers)
      for (int64_t r = 0; r < rows; ++r)  // now and then no row of x
        gather.push_back(random() % 9 == 0 ? (random() % 2 == 0 ? -1 : static_cast<int32_t>(x_rows))
                                           : static_cast<int32_t>(random() % x_rows));
    if (scatters) {
      scatter.resize(static_cast<size_t>(rows));
      std::iota(scatter.begin(), scatter.end(), 0);
      std::shuffle(scatter.begin(), scatter.end(), random);
      for (int32_t& to : scatter)
        if (random() % 9 == 0) to = random() % 2 == 0 ? -7 : static_cast<int32_t>(out_rows);
    }
    if (weighs)
      for (int64_t r = 0; r < rows; ++r)
        row_weights.push_back(random_normal(72, static_cast<uint64_t>(r)));
    x.resize(static_cast<size_t>(x_rows * k));
    fill_normal(std::span(x), 73);
    fill_normal(std::span(bias), 74);
    args.rows = rows;
    args.x = {x.data(), DType::kBF16, x_rows, k, k};
    args.weight = weight.view;
    args.bias = bias.data();
    args.row_offsets = row_offsets;
    args.gather = gather, args.scatter = scatter, args.row_weights = row_weights;
    args.activation = activation;
    const int64_t cols = activation == Activation::kSwiglu ? n / 2 : n;
    args.out = {nullptr, DType::kBF16, out_rows, cols, cols};
  }
};

// Runs it on the GPU, into poison.
std::vector<bf16> run(const Entries& e) {
  const cuda::DeviceBuffer<uint8_t> codes(e.weight.codes), scales(e.weight.scales);
  const cuda::DeviceBuffer<bf16> x(e.x);
  const cuda::DeviceBuffer<float> bias(e.bias), row_weights(e.row_weights);
  const cuda::DeviceBuffer<int32_t> row_offsets(e.row_offsets), gather(e.gather),
      scatter(e.scatter);
  const cuda::DeviceBuffer<bf16> out(
      std::vector<bf16>(static_cast<size_t>(e.args.out.rows * e.args.out.cols), bf16{0x7fff}));
  const cuda::Stream stream;
  const Mxfp4Matrices& w = e.args.weight;
  run_prepack({Mxfp4Layout::kPrepacked, codes.data(), scales.data(), w.experts, w.n, w.k},
              stream.get());
  ::moxie::GroupedGemmArgs args = e.args;
  args.x.data = x.data();
  args.weight.codes = codes.data(), args.weight.scales = scales.data();
  args.layout = Mxfp4Layout::kPrepacked;
  args.bias = bias.data();
  args.row_offsets = {row_offsets.data(), row_offsets.size()};
  args.gather = {gather.data(), gather.size()}, args.scatter = {scatter.data(), scatter.size()};
  args.row_weights = {row_weights.data(), row_weights.size()};
  args.out.data = out.data();
  const cuda::DeviceBuffer<uint8_t> workspace(
      std::vector<uint8_t>(static_cast<size_t>(workspace_bytes(shape_of(args)))));
  run_grouped_gemm(args, {workspace.data(), static_cast<int64_t>(workspace.bytes())}, stream.get());
  stream.synchronize();
  return out.to_host();
}

class HopperRowsOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  }
  void expect_within(const Entries& e) {
    const std::vector<bf16> got = run(e);
    const std::vector<Bounded> want = reference_grouped_gemm(e.args, available_cpus());
    for (size_t i = 0; i < want.size(); ++i) {
      if (want[i].bound < 0) {
        ASSERT_EQ(got[i].bits, 0x7fff) << "element " << i << " is nobody's";
        continue;
      }
      ASSERT_TRUE(is_within(to_float(got[i]), want[i]))
          << "row " << i / static_cast<size_t>(e.args.out.cols) << ", column "
          << i % static_cast<size_t>(e.args.out.cols) << ": " << to_float(got[i]) << ", wanted "
          << want[i].value << " +- " << want[i].bound;
    }
  }
};

TEST_F(HopperRowsOnGpu, GroupedGemmIsTheOraclesWithEveryCombinationOfLists) {
  const std::vector<std::vector<int32_t>> all_counts = {
      {2, 0, 4}, {0, 0}, {1}, {64, 1, 65, 63, 0, 3}, {0, 193, 7, 400}};
  for (const auto& counts : all_counts)
    for (int lists = 0; lists < 8; ++lists)
      expect_within(Entries(counts, 80, 96, (lists & 1) != 0, (lists & 2) != 0, (lists & 4) != 0));
}

TEST_F(HopperRowsOnGpu, GroupedGemmWithSwigluLargeScalesAndManyExperts) {
  for (int lists = 0; lists < 4; ++lists)
    expect_within(Entries({5, 0, 130, 17}, 160, 608, (lists & 1) != 0, (lists & 2) != 0, false,
                          Activation::kSwiglu));
  expect_within(Entries({9, 70}, 48, 160, true, true, true, Activation::kNone, 135));
  std::vector<int32_t> counts(512);
  for (size_t e = 0; e < counts.size(); ++e) counts[e] = static_cast<int32_t>(e * e % 5);
  expect_within(Entries(counts, 16, 64, true, true, true));
}

// More entries than the workspace's rows: what lies at the seam is what a call of these alone
// gives.
TEST_F(HopperRowsOnGpu, GroupedGemmInPiecesGivesTheBitsOfOnePiece) {
  constexpr int32_t kN = 65536, kK = 32, kRows = 2100;
  const Entries all({1000, kRows - 1000 - 3}, kN, kK, false, true, true);
  const std::vector<bf16> together = run(all);
  Entries seam({0, 8}, kN, kK, false, true, true);
  // The weights are the same. Of the last expert the entries 1948 .. 1956; a piece ends among them.
  for (size_t i = 0; i < 11; ++i) {
    const size_t from = 1948 + i;
    std::copy_n(all.x.begin() + static_cast<int64_t>(from) * kK, kK,
                seam.x.begin() + static_cast<int64_t>(i) * kK);
    seam.scatter[i] = static_cast<int32_t>(i);
    seam.row_weights[i] = all.row_weights[from];
  }
  const std::vector<bf16> alone = run(seam);
  int compared = 0;
  for (size_t i = 0; i < 8; ++i) {
    const int32_t to = all.scatter[1948 + i];
    if (to < 0 || to >= all.args.out.rows) continue;
    ++compared;
    EXPECT_TRUE(std::equal(alone.begin() + static_cast<int64_t>(i) * kN,
                           alone.begin() + static_cast<int64_t>(i + 1) * kN,
                           together.begin() + int64_t{to} * kN))
        << i;
  }
  EXPECT_GT(compared, 3);
}

// Logits or ids in the memory of the host, and outputs there for the oracle.
struct Routing {
  int64_t rows, experts, per_token, first, local;
  std::vector<float> logits;
  std::vector<bf16> logits_bf16;
  std::vector<int32_t> ids, row_offsets, list_rows, slots, positions;
  std::vector<float> weights, list_weights;

  Routing(int64_t num_rows, int64_t num_experts, int64_t experts_per_token, int64_t first_expert,
          int64_t local_experts)
      : rows(num_rows),
        experts(num_experts),
        per_token(experts_per_token),
        first(first_expert),
        local(local_experts),
        logits(static_cast<size_t>(rows * experts)),
        ids(static_cast<size_t>(rows * per_token), -9),
        row_offsets(static_cast<size_t>(local + 1), -9),
        list_rows(ids.size(), -9),
        slots(ids.size(), -9),
        positions(ids.size(), -9),
        weights(ids.size(), -9.0f),
        list_weights(ids.size(), -9.0f) {
    fill_normal(std::span(logits), 81);
    for (float& value : logits) {
      logits_bf16.push_back(to_bf16(value));
      value = to_float(logits_bf16.back());
    }
  }
  RowLists lists() { return {row_offsets, list_rows, slots, positions, list_weights}; }
};

struct RoutingOnDevice {
  cuda::DeviceBuffer<float> logits, weights, list_weights;
  cuda::DeviceBuffer<bf16> logits_bf16;
  cuda::DeviceBuffer<int32_t> ids, row_offsets, list_rows, slots, positions;

  explicit RoutingOnDevice(const Routing& r)
      : logits(r.logits),
        weights(r.weights),
        list_weights(r.list_weights),
        logits_bf16(r.logits_bf16),
        ids(r.ids),
        row_offsets(r.row_offsets),
        list_rows(r.list_rows),
        slots(r.slots),
        positions(r.positions) {}
  RowLists lists() const {
    return {{row_offsets.data(), row_offsets.size()},
            {list_rows.data(), list_rows.size()},
            {slots.data(), slots.size()},
            {positions.data(), positions.size()},
            {list_weights.data(), list_weights.size()}};
  }
  void expect_lists_of(const Routing& want) const {
    EXPECT_EQ(row_offsets.to_host(), want.row_offsets);
    EXPECT_EQ(list_rows.to_host(), want.list_rows);
    EXPECT_EQ(slots.to_host(), want.slots);
    EXPECT_EQ(positions.to_host(), want.positions);
  }
};

cuda::DeviceBuffer<uint8_t> workspace_for(const RouteShape& shape) {
  return cuda::DeviceBuffer<uint8_t>(
      std::vector<uint8_t>(static_cast<size_t>(workspace_bytes(shape))));
}
Workspace view(const cuda::DeviceBuffer<uint8_t>& buffer) {
  return {buffer.data(), static_cast<int64_t>(buffer.bytes())};
}

TEST_F(HopperRowsOnGpu, RouteChoosesWeighsAndListsAsTheOracleDoes) {
  for (const auto& [rows, experts, per_token, first, local] :
       {std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>{0, 8, 4, 0, 8},
        {1, 8, 4, 0, 8},
        {33, 32, 4, 8, 16},
        {200, 128, 4, 0, 128},
        {65, 512, 8, 100, 3},
        {7, 5, 5, 0, 0}})
    for (const bool in_bf16 : {false, true}) {
      Routing want(rows, experts, per_token, first, local);
      const RoutingOnDevice got(want);
      RouteArgs args;
      args.logits = {want.logits.data(), DType::kF32, rows, experts, experts};
      if (in_bf16) args.logits = {want.logits_bf16.data(), DType::kBF16, rows, experts, experts};
      args.experts_per_token = per_token;
      args.rounding = in_bf16 ? WeightRounding::kToLogits : WeightRounding::kNone;
      args.first_expert = first, args.experts = local;
      args.expert_ids = want.ids, args.weights = want.weights, args.lists = want.lists();
      reference_route(args);
      args.logits.data = in_bf16 ? static_cast<const void*>(got.logits_bf16.data())
                                 : static_cast<const void*>(got.logits.data());
      args.expert_ids = {got.ids.data(), got.ids.size()};
      args.weights = {got.weights.data(), got.weights.size()};
      args.lists = got.lists();
      const auto workspace = workspace_for(shape_of(args));
      const cuda::Stream stream;
      run_route(args, view(workspace), stream.get());
      stream.synchronize();
      EXPECT_EQ(got.ids.to_host(), want.ids);
      got.expect_lists_of(want);
      const std::vector<float> weights = got.weights.to_host(), sorted = got.list_weights.to_host();
      for (size_t slot = 0; slot < weights.size(); ++slot) {
        const double exact = want.weights[slot];
        // The contract's error on both sides; in bf16 a rounding may tip.
        const double bound = exact * (40 * 0x1p-22 * 2 + (in_bf16 ? 0x1p-8 : 0)) + 0x1p-126;
        EXPECT_NEAR(weights[slot], exact, bound) << rows << ", slot " << slot;
        if (want.positions[slot] < 0) continue;
        EXPECT_EQ(sorted[static_cast<size_t>(want.positions[slot])], weights[slot]);
      }
    }
}

TEST_F(HopperRowsOnGpu, RowListsOfGivenIdsSkipForeignOnesAndSentinels) {
  for (const int64_t rows : {0, 1, 40, 300}) {
    Routing want(rows, 16, 4, 3, 9);
    const int32_t foreign[] = {-1, 2, 12, 16, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < want.ids.size(); ++i) {
      want.ids[i] = static_cast<int32_t>(random_bits(91, i) % 16);
      if (random_bits(92, i) % 4 == 0) want.ids[i] = foreign[i % 6];
      want.weights[i] = static_cast<float>(i);
    }
    const RoutingOnDevice got(want);
    RowListsArgs args;
    args.rows = rows, args.experts_per_token = 4, args.first_expert = 3, args.experts = 9;
    args.expert_ids = want.ids, args.expert_weights = want.weights, args.lists = want.lists();
    reference_row_lists(args);
    args.expert_ids = {got.ids.data(), got.ids.size()};
    args.expert_weights = {got.weights.data(), got.weights.size()};
    args.lists = got.lists();
    const auto workspace = workspace_for(shape_of(args));
    const cuda::Stream stream;
    run_row_lists(args, view(workspace), stream.get());
    stream.synchronize();
    got.expect_lists_of(want);
    EXPECT_EQ(got.list_weights.to_host(), want.list_weights);
    EXPECT_EQ(got.ids.to_host(), want.ids) << "ids that were given were changed";
  }
}

TEST(HopperRows, AWorkspaceSufficesForFewerRowsAndStaysBelow512MiB) {
  int64_t route_before = 0, gemm_before = 0;
  for (const int64_t rows : {0, 1, 31, 33, 1000, 2047, 2048, 2049, 4096, 8193, 65536}) {
    const int64_t route =
        workspace_bytes(RouteShape{.rows = rows, .experts = 512, .experts_per_token = 8});
    const int64_t gemm =
        workspace_bytes(GroupedGemmShape{.rows = 8 * rows, .experts = 128, .n = 5760, .k = 2880});
    EXPECT_GE(route, route_before) << rows;
    EXPECT_GE(gemm, gemm_before) << rows;
    EXPECT_LE(std::max(route, gemm), 512 << 20) << rows;
    route_before = route, gemm_before = gemm;
  }
}

}  // namespace
}  // namespace moxie::hopper
