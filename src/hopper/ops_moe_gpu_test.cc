// moe as a program calls it, on a GPU, against the oracle; and the size of its workspace.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/thread_pool.h"
#include "cuda/device.h"
#include "hopper/moe_grouped.h"
#include "hopper/ops.h"
#include "hopper/test_support.h"
#include "mxfp4/weight_layout.h"
#include "ops/reference/moe.h"
#include "ops/reference/random.h"

namespace moxie::hopper {
namespace {

// A layer in the host's memory. Small integers and two scales, so that the first product is exact
// and bounds stay narrow.
struct Layer {
  int64_t rows, hidden, inner, experts, chosen;
  RandomMxfp4 gate_up, down;
  std::vector<bf16> x, residual, logits;
  std::vector<float> gate_up_bias, down_bias, weights;
  std::vector<int32_t> ids;
  MoeArgs args;

  Layer(int64_t num_rows, int64_t hidden_size, int64_t inner_size, int64_t num_experts,
        int64_t experts_per_token)
      : rows(num_rows),
        hidden(hidden_size),
        inner(inner_size),
        experts(num_experts),
        chosen(experts_per_token),
        gate_up(experts, 2 * inner, hidden, 71, 119, 120),
        down(experts, hidden, inner, 73, 119, 120),
        x(static_cast<size_t>(rows * hidden)),
        residual(x.size()),
        logits(static_cast<size_t>(rows * experts)),
        gate_up_bias(static_cast<size_t>(experts * 2 * inner)),
        down_bias(static_cast<size_t>(experts * hidden)),
        weights(static_cast<size_t>(rows * chosen)),
        ids(weights.size()) {
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = to_bf16(static_cast<float>(static_cast<int>(random_bits(75, i) % 5) - 2));
    for (size_t i = 0; i < gate_up_bias.size(); ++i)
      gate_up_bias[i] = 0.25f * static_cast<float>(static_cast<int>(random_bits(76, i) % 9) - 4);
    fill_normal(std::span(down_bias), 77);
    fill_normal(std::span(residual), 78);
    fill_normal(std::span(logits), 79, 2);
    for (int64_t row = 0; row < rows; ++row)  // distinct experts
      for (int64_t i = 0; i < chosen; ++i) {
        const auto slot = static_cast<size_t>(row * chosen + i);
        const auto start = static_cast<int64_t>(random_bits(80, static_cast<uint64_t>(row)) % 97);
        ids[slot] = static_cast<int32_t>((start + i * (experts / chosen)) % experts);
        weights[slot] = random_uniform(81, slot);
      }
    args.x = {x.data(), DType::kBF16, rows, hidden, hidden};
    args.experts_per_token = chosen;
    args.expert_ids = ids;
    args.weights = weights;
    args.foreign = ForeignExperts::kSkip;
    args.gate_up = gate_up.view;
    args.down = down.view;
    args.gate_up_bias = gate_up_bias.data();
    args.down_bias = down_bias.data();
    args.residual = {residual.data(), DType::kBF16, rows, hidden, hidden};
  }
  // Rows that e4m3 holds exactly: the factor is 64. So the first product is still exact.
  void use_fp8() {
    for (int64_t row = 0; row < rows; ++row)
      x[static_cast<size_t>(row * hidden + row % hidden)] = to_bf16(row % 2 == 0 ? 7.0f : -7.0f);
    args.activations = Activations::kFp8;
  }
  void use_logits() {
    args.logits = {logits.data(), DType::kBF16, rows, experts, experts};
    args.expert_ids = {};
    args.weights = {};
  }
};

// The same in the memory of the GPU, prepacked there.
struct OnDevice {
  cuda::DeviceBuffer<uint8_t> gate_up_codes, gate_up_scales, down_codes, down_scales, workspace;
  cuda::DeviceBuffer<bf16> x, residual, logits, out;
  cuda::DeviceBuffer<float> gate_up_bias, down_bias, weights;
  cuda::DeviceBuffer<int32_t> ids;
  cuda::DeviceBuffer<uint64_t> num_wide_tiles{std::vector<uint64_t>(1)};
  MoeArgs args;

  explicit OnDevice(const Layer& l)
      : gate_up_codes(l.gate_up.codes),
        gate_up_scales(l.gate_up.scales),
        down_codes(l.down.codes),
        down_scales(l.down.scales),
        workspace(std::vector<uint8_t>(static_cast<size_t>(workspace_bytes(shape_of(l.args))))),
        x(l.x),
        residual(l.residual),
        logits(l.logits),
        out(std::vector<bf16>(l.x.size(), bf16{0x7fff})),
        gate_up_bias(l.gate_up_bias),
        down_bias(l.down_bias),
        weights(l.weights),
        ids(l.ids),
        args(l.args) {
    // Offsets of an expert range stay what they are in the host's arrays.
    const auto move = [](const auto*& pointer, const auto& from, const auto& to) {
      if (pointer != nullptr) pointer = to.data() + (pointer - from.data());
    };
    move(args.gate_up.codes, l.gate_up.codes, gate_up_codes);
    move(args.gate_up.scales, l.gate_up.scales, gate_up_scales);
    move(args.down.codes, l.down.codes, down_codes);
    move(args.down.scales, l.down.scales, down_scales);
    move(args.gate_up_bias, l.gate_up_bias, gate_up_bias);
    move(args.down_bias, l.down_bias, down_bias);
    args.layout = Mxfp4Layout::kPrepacked;
    args.x.data = x.data();
    if (args.logits) args.logits.data = logits.data();
    if (!args.logits) {
      args.expert_ids = {ids.data(), ids.size()};
      args.weights = {weights.data(), weights.size()};
    }
    if (args.residual) args.residual.data = residual.data();
    args.out = {out.data(), DType::kBF16, l.rows, l.hidden, l.hidden};
    args.num_wide_tiles = num_wide_tiles.data();
    for (const auto& [codes, scales, n, k] :
         {std::tuple{&gate_up_codes, &gate_up_scales, 2 * l.inner, l.hidden},
          {&down_codes, &down_scales, l.hidden, l.inner}})
      run_prepack({Mxfp4Layout::kPrepacked, codes->data(), scales->data(), l.experts, n, k},
                  nullptr);
    MOXIE_CUDA_CHECK(cudaDeviceSynchronize());
  }
  std::vector<bf16> run() const {
    const cuda::Stream stream;
    run_moe(args, {workspace.data(), static_cast<int64_t>(workspace.bytes())}, stream.get());
    stream.synchronize();
    return out.to_host();
  }
};

// `rms`: the largest relative RMS of what bounds allow.
void expect_within(const Layer& l, const std::vector<bf16>& got, double rms = 0x1p-9) {
  const std::vector<Bounded> want = reference_moe(l.args, available_cpus());
  std::vector<float> values;
  for (const bf16 value : got) values.push_back(to_float(value));
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_TRUE(is_within(values[i], want[i]))
        << "row " << i / static_cast<size_t>(l.hidden) << " of " << l.rows << ", column "
        << i % static_cast<size_t>(l.hidden) << ": " << values[i] << ", wanted " << want[i].value
        << " +- " << want[i].bound;
  EXPECT_LT(relative_rms(values, want), rms) << l.rows;
}

class HopperMoeOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_hopper(); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(HopperMoeOnGpu, IsTheOraclesForAnyNumberOfRowsWithIdsAndWithLogits) {
  for (const int64_t rows : {0, 1, 3, 16, 17, 63, 64, 65, 200})
    for (const bool with_logits : {false, true}) {
      Layer l(rows, 160, 96, 8, 4);
      if (with_logits) l.use_logits();
      expect_within(l, OnDevice(l).run());
    }
  Layer l(9, 2880, 2880, 6, 4);
  l.args.residual = {};
  expect_within(l, OnDevice(l).run());
  l.args.gate_up_bias = l.args.down_bias = nullptr;
  expect_within(l, OnDevice(l).run());
}

// What is skipped has NaN for a weight, and an id that leads nowhere.
TEST_F(HopperMoeOnGpu, SkipsExpertsOfOthersAndSentinels) {
  const int32_t sentinels[] = {
      -1, 1, 6, 8, 4096, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()};
  for (const int64_t rows : {1, 16, 70}) {
    Layer l(rows, 96, 64, 8, 4);
    size_t skipped = 0;
    for (size_t i = 0; i < l.ids.size(); ++i)
      if (l.ids[i] < 2 || l.ids[i] > 5) {
        l.ids[i] = sentinels[skipped++ % 7];
        l.weights[i] = std::numeric_limits<float>::quiet_NaN();
      }
    l.args.first_expert = 2;
    l.args.gate_up = {l.gate_up.view.expert_codes(2), l.gate_up.view.expert_scales(2), 4, 128, 96};
    l.args.down = {l.down.view.expert_codes(2), l.down.view.expert_scales(2), 4, 96, 64};
    l.args.gate_up_bias += 2 * 128;
    l.args.down_bias += 2 * 96;
    expect_within(l, OnDevice(l).run());
    std::fill(l.ids.begin(), l.ids.end(), -1);
    EXPECT_TRUE(OnDevice(l).run() == l.residual);
  }
}

TEST_F(HopperMoeOnGpu, OneWorkspaceServesCallsOfFewerRowsInAnyOrder) {
  Layer largest(80, 608, 640, 8, 4);  // sums of two panels
  const OnDevice d(largest);
  const auto first_rows = [&](int64_t rows, const OnDevice& workspace_of) {
    OnDevice fewer(largest);
    fewer.args.x.rows = fewer.args.out.rows = fewer.args.residual.rows = rows;
    fewer.args.expert_ids = fewer.args.expert_ids.first(static_cast<size_t>(rows * 4));
    fewer.args.weights = fewer.args.weights.first(static_cast<size_t>(rows * 4));
    const cuda::DeviceBuffer<uint8_t>& workspace = workspace_of.workspace;
    run_moe(fewer.args, {workspace.data(), static_cast<int64_t>(workspace.bytes())}, nullptr);
    MOXIE_CUDA_CHECK(cudaDeviceSynchronize());
    return fewer.out.to_host();
  };
  // A row's bits do not depend on the others, up to four rows and beyond.
  const std::vector<bf16> all = d.run(), four = first_rows(4, OnDevice(largest));
  for (const int64_t rows : {1, 40, 3, 16, 80, 2, 5}) {
    const std::vector<bf16> got = first_rows(rows, d);
    const std::vector<bf16>& want = rows <= 4 ? four : all;
    EXPECT_TRUE(std::equal(got.begin(), got.begin() + rows * 608, want.begin())) << rows;
  }
}

// The 8-bit tensor cores cut the second product's sums; a lost block of 32 would still be 2^-3.
constexpr double kFp8Rms = 0x1p-6;

TEST_F(HopperMoeOnGpu, WithFp8ActivationsIsTheOraclesForAnyNumberOfRows) {
  for (const int64_t rows : {0, 1, 3, 8, 9, 16, 17, 63, 64, 65, 200, 500})
    for (const bool with_logits : {false, true}) {
      Layer l(rows, 160, 96, 8, 4);
      l.use_fp8();
      if (with_logits) l.use_logits();
      const OnDevice d(l);
      expect_within(l, d.run(), kFp8Rms);
      EXPECT_EQ(d.num_wide_tiles.to_host()[0], 0u);
    }
  // One expert takes all: every width of a tile and its edges.
  for (const int64_t rows : {7,   31,  32,  33,  95,  96,  97,  127, 128, 129,
                             160, 161, 191, 192, 193, 201, 319, 320, 321, 700}) {
    Layer l(rows, 96, 64, 1, 1);
    l.use_fp8();
    expect_within(l, OnDevice(l).run(), kFp8Rms);
  }
  // Blocks without partner, panels and stages that end early.
  for (const auto& [hidden, inner] : {std::pair<int64_t, int64_t>{32, 32},
                                      {64, 32},
                                      {160, 224},
                                      {96, 672},
                                      {672, 96},
                                      {1184, 352}})
    for (const int64_t rows : {5, 300}) {
      Layer l(rows, hidden, inner, 3, 2);
      l.use_fp8();
      expect_within(l, OnDevice(l).run(), kFp8Rms);
    }
  Layer l(9, 2880, 2880, 6, 4);
  l.use_fp8();
  l.args.residual = {};
  expect_within(l, OnDevice(l).run(), kFp8Rms);
}

TEST_F(HopperMoeOnGpu, WithFp8ActivationsRandomRowsStayWithinTheirBounds) {
  for (const int64_t rows : {3, 300}) {
    Layer l(rows, 160, 96, 8, 4);
    fill_normal(std::span(l.x), 91);
    l.args.activations = Activations::kFp8;
    // What is exact here is not the first product: its errors tip hidden values to other e4m3.
    expect_within(l, OnDevice(l).run(), 0x1p-4);
  }
}

// Of the second product: all codes, the scales of a row within a window anywhere.
TEST_F(HopperMoeOnGpu, WithFp8ActivationsTakesEveryScale) {
  for (const int first : {0, 40, 100, 150, 210})
    for (const int64_t rows : {6, 100}) {
      Layer l(rows, 64, 1216, 2, 1);
      l.use_fp8();
      for (size_t i = 0; i < l.down.scales.size(); ++i)
        l.down.scales[i] = static_cast<uint8_t>(first + static_cast<int>(random_bits(92, i) % 27));
      std::fill(l.down_bias.begin(), l.down_bias.end(), 0.0f);
      l.args.residual = {};
      const OnDevice d(l);
      expect_within(l, d.run(), kFp8Rms);
      EXPECT_EQ(d.num_wide_tiles.to_host()[0], 0u) << first;
    }
}

// A window moves from one panel of 576 to the next; within one it cannot.
TEST_F(HopperMoeOnGpu, WithFp8ActivationsWideRowsAreMultipliedInBf16) {
  struct Case {
    const char* what;
    int scales[3];  // of the blocks of three panels in row 5
    int odd_block;  // and of one block of the second
    uint64_t wide_tiles;
  };
  for (const Case& c :
       {Case{"window follows", {120, 150, 100}, 150, 0},
        Case{"as wide as a window", {120, 120, 120}, 146, 0},
        Case{"one wider", {120, 120, 120}, 147, 1}, Case{"lower", {120, 120, 120}, 60, 1},
        Case{"panels too far apart", {120, 200, 120}, 200, 1},
        Case{"far below", {200, 120, 120}, 120, 1}, Case{"NaN", {120, 120, 120}, 255, 1}})
    for (const int64_t rows : {6, 100}) {
      Layer l(rows, 64, 1216, 1, 1);
      l.use_fp8();
      const auto blocks = static_cast<size_t>(l.inner / 32);
      for (size_t block = 0; block < blocks; ++block)
        l.down.scales[5 * blocks + block] = static_cast<uint8_t>(c.scales[block / 18]);
      l.down.scales[5 * blocks + 20] = static_cast<uint8_t>(c.odd_block);
      l.args.residual = {};
      const OnDevice d(l);
      SCOPED_TRACE(c.what);
      const std::vector<Bounded> want = reference_moe(l.args, available_cpus());
      const std::vector<bf16> got = d.run();
      for (size_t i = 0; i < want.size(); ++i)
        ASSERT_TRUE(is_within(to_float(got[i]), want[i]))
            << i << ": " << to_float(got[i]) << ", wanted " << want[i].value << " +- "
            << want[i].bound;
      EXPECT_EQ(d.num_wide_tiles.to_host()[0], c.wide_tiles);
      EXPECT_TRUE(d.run() == got);
    }
}

TEST_F(HopperMoeOnGpu, WithFp8ActivationsTheSameBitsInEveryRunAndEveryBatch) {
  Layer l(600, 416, 288, 8, 4);
  fill_normal(std::span(l.x), 93);
  l.args.activations = Activations::kFp8;
  const OnDevice all(l);
  const std::vector<bf16> together = all.run();
  EXPECT_TRUE(all.run() == together);
  OnDevice few(l);
  few.args.x.rows = few.args.out.rows = few.args.residual.rows = 5;
  few.args.expert_ids = few.args.expert_ids.first(20);
  few.args.weights = few.args.weights.first(20);
  const std::vector<bf16> alone = few.run();
  EXPECT_TRUE(std::equal(alone.begin(), alone.begin() + 5 * 416, together.begin()));
}

// A row that has one is NaN altogether; others do not notice.
TEST_F(HopperMoeOnGpu, WithFp8ActivationsInfinitiesGiveNaN) {
  Layer l(3, 96, 64, 2, 1);
  l.use_fp8();
  const std::vector<bf16> before = OnDevice(l).run();
  l.x[96 + 5] = bf16{0x7f80};
  const std::vector<bf16> got = OnDevice(l).run();
  for (size_t i = 0; i < got.size(); ++i)
    if (i / 96 == 1)
      EXPECT_TRUE(std::isnan(to_float(got[i]))) << i;
    else
      EXPECT_EQ(got[i].bits, before[i].bits) << i;
}

TEST(HopperMoe, AWorkspaceSufficesForFewerRowsAndStaysBelow512MiB) {
  for (const auto& [hidden, inner, experts, chosen] :
       {std::tuple<int64_t, int64_t, int64_t, int64_t>{2880, 2880, 128, 4},
        {2880, 2880, 512, 8},
        {32, 32, 1, 1},
        {8192, 4096, 64, 8}}) {
    int64_t before = 0;
    for (const int64_t rows :
         {1, 8, 16, 17, 64, 100, 1000, 8191, 8192, 8193, 16384, 20000, 32768, 50000, 65536}) {
      const int64_t bytes = workspace_bytes(MoeShape{.rows = rows,
                                                     .hidden = hidden,
                                                     .inner = inner,
                                                     .experts = experts,
                                                     .experts_per_token = chosen});
      EXPECT_GE(bytes, before) << rows;
      EXPECT_LE(bytes, 512 << 20) << rows;
      before = bytes;
      MoeSizes sizes{rows,
                     static_cast<int>(hidden),
                     static_cast<int>(inner),
                     static_cast<int>(experts),
                     static_cast<int>(experts),
                     0,
                     static_cast<int>(chosen)};
      EXPECT_GE(bytes, moe_grouped_workspace_bytes(sizes, select_moe_grouped_config(sizes, 132)));
    }
  }
}

}  // namespace
}  // namespace moxie::hopper
