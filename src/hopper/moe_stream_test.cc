#include "hopper/moe_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "cuda/device.h"
#include "hopper/moe_test_support.h"

namespace moxie::hopper {
namespace {

struct Options {
  bool from_logits = false, with_residual = false;
  int runs = 1;
  MoeStreamOptions stream;
  int ctas = 132;
};

// As the contract asks: state of zeros, the rest poison.
std::vector<uint8_t> new_workspace(const MoeSizes& sizes) {
  std::vector<uint8_t> bytes(idx(moe_stream_workspace_bytes(sizes)), 0xff);
  std::fill(bytes.begin(), bytes.begin() + moe_stream_state_bytes(), uint8_t{0});
  return bytes;
}

std::vector<bf16> run(const Problem& p, const Options& options = {}) {
  const OnGpu gpu(p, options.from_logits, options.with_residual);
  const MoeStreamConfig config = select_moe_stream_config(p.sizes, options.ctas, options.stream);
  EXPECT_GT(config.slots, 0) << to_string(config);
  const cuda::DeviceBuffer<uint8_t> workspace(new_workspace(p.sizes));
  const cuda::Stream stream;
  MOXIE_CUDA_CHECK(prepare_moe_stream());
  for (int i = 0; i < options.runs; ++i)
    MOXIE_CUDA_CHECK(launch_moe_stream(gpu.args, config, workspace.data(), stream.get()));
  stream.synchronize();
  return gpu.out.to_host();
}

void expect_within_bound(const Problem& p, const Options& options = {}, int64_t row_step = 1) {
  expect_within_moe_bound(p, run(p, options), options.with_residual,
                          to_string(select_moe_stream_config(p.sizes, 132, options.stream)),
                          row_step);
}

class MoeStream : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(MoeStream, StaysWithinItsBoundForEveryNumberOfRows) {
  for (int rows = 1; rows <= kMoeStreamMaxRows; ++rows) {
    expect_within_bound(random_problem(sizes(rows, 96, 64, 1, 1)), {false, false});
    expect_within_bound(random_problem(sizes(rows, 160, 224, 5, 4)), {false, true});
    expect_within_bound(random_problem(sizes(rows, 96, 672, 40, 4)), {false, false, 2});
  }
  for (int rows = 1; rows <= 4; ++rows)
    expect_within_bound(random_problem(sizes(rows, 608, 96, 9, 8)), {false, true});
}

TEST_F(MoeStream, StaysWithinItsBoundForRemaindersOfBothDimensions) {
  for (const auto& [hidden, inner] : {std::pair{32, 32},
                                      {64, 32},
                                      {32, 64},
                                      {160, 224},
                                      {672, 96},
                                      {608, 1216},
                                      {1184, 352},
                                      {2144, 1760},
                                      {4256, 640},
                                      {64, 4256}})
    for (const int rows : {1, 3})
      expect_within_bound(random_problem(sizes(rows, hidden, inner, 5, 3)), {false, true});
}

TEST_F(MoeStream, StaysWithinItsBoundAtTheRealSizes) {
  for (const int rows : {1, 4, 8})
    expect_within_bound(random_problem(sizes(rows, 2880, 2880, 8, 4)), {}, 3);
}

TEST_F(MoeStream, SmallAndLargeScales) {
  for (const auto& [low, high] : {std::pair{0, 3}, {125, 131}, {200, 228}}) {
    Problem p = random_problem(sizes(3, 64, 96, 2, 1), 116, 122);
    for (uint8_t& s : p.down.scales) s = static_cast<uint8_t>(low + s % (high - low + 1));
    std::fill(p.down.bias.begin(), p.down.bias.end(), 0.0f);
    std::fill(p.weights.begin(), p.weights.end(), 1.0f);
    expect_within_bound(p);
  }
}

TEST_F(MoeStream, AdversarialRouting) {
  Problem p = random_problem(sizes(8, 128, 1216, 16, 4));
  const std::vector<int32_t> shuffled = p.ids;
  std::fill(p.ids.begin(), p.ids.end(), 3);  // one takes all, of every row four times
  expect_within_bound(p, {false, false, 2});
  for (size_t i = 0; i < p.ids.size(); ++i) p.ids[i] = static_cast<int32_t>(i % 12 == 0 ? 2 : 5);
  expect_within_bound(p);
  for (size_t i = 0; i < p.ids.size(); ++i)  // most of a row's entries are sentinels
    p.ids[i] = i % 4 == 1   ? shuffled[i]
               : i % 4 == 2 ? -1
                            : (i % 4 == 3 ? 1 << 30 : std::numeric_limits<int32_t>::min());
  expect_within_bound(p);
  std::fill(p.ids.begin(), p.ids.end(), -1);  // nobody
  expect_within_bound(p, {false, true, 3});
  p.ids[13] = 7;  // one
  expect_within_bound(p, {false, true, 3});
  p.ids = shuffled;  // the upper half of the experts lives elsewhere; then the lower half too
  p.sizes.num_experts = 8;
  expect_within_bound(p);
  p.sizes.first_expert = 8;
  expect_within_bound(p);
}

// The same logits must lead to the same choice and weights as moe_grouped's.
TEST_F(MoeStream, ChoosesLikeMoeGrouped) {
  for (const int experts : {4, 32, 33, 128}) {
    Problem p = random_problem(sizes(8, 64, 32, experts, 4));
    for (size_t i = 0; i < p.logits.size(); i += 5) p.logits[i] = to_bf16(1.5f);  // ties
    for (size_t i = 1; i < p.logits.size(); i += 7) p.logits[i] = bf16{0x7fc0};   // NaN
    const OnGpu gpu(p, true, true);
    const GroupedGemmConfig config = select_moe_grouped_config(p.sizes, 132);
    const cuda::DeviceBuffer<uint8_t> workspace(idx(moe_grouped_workspace_bytes(p.sizes, config)));
    const cuda::Stream stream;
    MOXIE_CUDA_CHECK(prepare_grouped_gemm());
    MOXIE_CUDA_CHECK(launch_moe_grouped(gpu.args, config, workspace.data(), stream.get()));
    stream.synchronize();
    // One panel: the order of sums is the same but for the two halves of pairs.
    const std::vector<bf16> want = gpu.out.to_host(), got = run(p, {true, true});
    for (size_t i = 0; i < want.size(); ++i) {
      if (std::isnan(to_float(want[i]))) {
        ASSERT_TRUE(std::isnan(to_float(got[i])));
        continue;
      }
      ASSERT_NEAR(to_float(got[i]), to_float(want[i]), 0x1p-6 * (1 + std::fabs(to_float(want[i]))))
          << experts << " experts, output " << i;
    }
  }
}

TEST_F(MoeStream, TheSameBitsInEveryRunAndEveryBatchAndEveryConfiguration) {
  const Problem all = random_problem(sizes(8, 1184, 1760, 8, 4));
  const std::vector<bf16> together = run(all, {true, true, 3});
  EXPECT_TRUE(run(all, {true, true}) == together);
  EXPECT_TRUE(run(all, {true, true, 1, {8, 8, 8}}) == together);
  EXPECT_TRUE(run(all, {true, true, 1, {11, 13, 16}}) == together);
  for (int rows = 1; rows < 8; ++rows) {
    Problem some = all;
    some.sizes.rows = rows;
    const std::vector<bf16> few = run(some, {true, true});
    EXPECT_TRUE(std::equal(few.begin(), few.begin() + rows * 1184, together.begin())) << rows;
  }
}

// Rows of x too large for the common power of two, and rows of them beside ordinary ones.
TEST_F(MoeStream, LargeValuesOfOneRowLeaveOthersAlone) {
  Problem p = random_problem(sizes(4, 1184, 608, 6, 3));
  const std::vector<bf16> before = run(p, {true, true});
  for (size_t i = 0; i < 1184; ++i) {
    p.x[1184 + i] = to_bf16(to_float(p.x[1184 + i]) * 0x1p70f);
    p.x[3 * 1184 + i] = to_bf16(to_float(p.x[3 * 1184 + i]) * 0x1p120f);
  }
  expect_within_bound(p, {false, true});
  const std::vector<bf16> after = run(p, {true, true});
  for (const size_t row : {size_t{0}, size_t{2}})
    EXPECT_TRUE(std::equal(before.begin() + row * 1184, before.begin() + (row + 1) * 1184,
                           after.begin() + row * 1184))
        << row;
}

// More CTAs than can run at once: those that run wait for what the others would have to do.
TEST_F(MoeStream, CtasThatCannotStartAreStoodInFor) {
  const Problem p = random_problem(sizes(2, 1184, 608, 6, 4));
  Options options{true, true, 2};
  const std::vector<bf16> want = run(p, options);
  options.ctas = 200;
  EXPECT_TRUE(run(p, options) == want);
}

// Launches of different numbers of rows on one workspace, replayed many times as a graph, and two
// streams at once, whose CTAs do not all fit: nothing hangs, and nothing changes.
TEST_F(MoeStream, GraphsReplayAndStreamsMeet) {
  constexpr int kRuns = 50;
  struct Case {
    Problem problem;
    MoeStreamConfig config;
    std::vector<bf16> want;
  };
  std::vector<Case> cases;
  for (const int rows : {4, 1, 7, 2}) {
    const Problem p = random_problem(sizes(rows, 1184, 608, 12, 4));
    cases.push_back({p, select_moe_stream_config(p.sizes, 132), run(p, {true, true})});
  }
  const MoeSizes most = sizes(8, 1184, 608, 12, 4);
  const cuda::Stream streams[2];
  std::vector<OnGpu> gpu[2];
  cudaGraphExec_t graphs[2];
  const cuda::DeviceBuffer<uint8_t> workspaces[2] = {
      cuda::DeviceBuffer<uint8_t>(new_workspace(most)),
      cuda::DeviceBuffer<uint8_t>(new_workspace(most))};
  for (int s = 0; s < 2; ++s) {
    for (const Case& c : cases) gpu[s].emplace_back(c.problem, true, true);
    cudaGraph_t graph;
    MOXIE_CUDA_CHECK(cudaStreamBeginCapture(streams[s].get(), cudaStreamCaptureModeThreadLocal));
    for (size_t i = 0; i < cases.size(); ++i)
      MOXIE_CUDA_CHECK(launch_moe_stream(gpu[s][i].args, cases[i].config, workspaces[s].data(),
                                         streams[s].get()));
    MOXIE_CUDA_CHECK(cudaStreamEndCapture(streams[s].get(), &graph));
    MOXIE_CUDA_CHECK(cudaGraphInstantiate(&graphs[s], graph, 0));
    cudaGraphDestroy(graph);
  }
  for (int i = 0; i < kRuns; ++i)
    for (int s = 0; s < 2; ++s) MOXIE_CUDA_CHECK(cudaGraphLaunch(graphs[s], streams[s].get()));
  for (int s = 0; s < 2; ++s) {
    streams[s].synchronize();
    for (size_t i = 0; i < cases.size(); ++i)
      EXPECT_TRUE(gpu[s][i].out.to_host() == cases[i].want) << "stream " << s << " case " << i;
    cudaGraphExecDestroy(graphs[s]);
    const std::vector<uint8_t> state = workspaces[s].to_host();
    EXPECT_TRUE(std::all_of(state.begin(), state.begin() + moe_stream_state_bytes(),
                            [](uint8_t b) { return b == 0; }));
  }
}

TEST(MoeStreamConfig, FitsIntoSharedMemoryAndDealsEveryStripOnce) {
  for (const auto& [hidden, inner] :
       {std::pair{32, 32}, {96, 672}, {2880, 2880}, {4096, 1024}, {2112, 4224}})
    for (const int rows : {1, 2, 4, 8})
      for (const int ctas : {1, 7, 114, 132}) {
        const MoeSizes s = sizes(rows, hidden, inner, 32, 4);
        const MoeStreamConfig c = select_moe_stream_config(s, ctas);
        if (ctas < 100 && c.slots == 0) continue;
        EXPECT_GT(c.slots, 0) << to_string(c) << " " << hidden << " " << inner << " " << rows;
        EXPECT_LE(c.shared_bytes, 227 * 1024) << to_string(c);
        const MoeStreamPlan& plan = c.plan;
        ASSERT_LT(plan.rest, ctas);
        std::vector<int> dealt(idx(plan.up_strips)), owned(idx(plan.down_strips));
        const int place = rows;
        for (int cta = 0; cta < ctas; ++cta) {
          for (int i = 0; i < plan.turns(cta); ++i) ++dealt[idx(plan.turn_strip(cta, i))];
          if (const int rest = plan.rest_of(cta, place); rest < plan.rest)
            ++dealt[idx(plan.first_rest() + rest)];
          for (int i = 0; i < plan.owned(cta); ++i) ++owned[idx(plan.first_owned(cta) + i)];
        }
        for (const int times : dealt) ASSERT_EQ(times, 1);
        for (const int times : owned) ASSERT_EQ(times, 1);
      }
  EXPECT_TRUE(supports_moe_stream_swiglu(1.702f, 7));
  EXPECT_FALSE(supports_moe_stream_swiglu(1.702f, std::numeric_limits<float>::infinity()));
  EXPECT_FALSE(supports_moe_stream_swiglu(0x1p-80f, 7));
  for (const float alpha : {0.0f, -0.0f, -1.702f, std::numeric_limits<float>::quiet_NaN()})
    EXPECT_FALSE(supports_moe_stream_swiglu(alpha, 7)) << alpha;
  // Few warps are not enough to route eight rows and to fetch them.
  for (const int warps : {1, 2, 4, 5, 6})
    EXPECT_EQ(select_moe_stream_config(sizes(8, 32, 32, 32, 4), 132, {.warps = warps}).slots > 0,
              warps >= 6)
        << warps;
  EXPECT_FALSE(supports_moe_stream(sizes(9, 2880, 2880, 32, 2), 132));
  EXPECT_FALSE(supports_moe_stream(sizes(5, 2880, 2880, 32, 8), 132));
  EXPECT_FALSE(supports_moe_stream(sizes(1, 24, 32, 32, 4), 132));
  EXPECT_FALSE(supports_moe_stream(sizes(1, 64, 32, 129, 4), 132));
}

}  // namespace
}  // namespace moxie::hopper
