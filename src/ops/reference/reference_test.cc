#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/check.h"
#include "mxfp4/block.h"
#include "ops/attention.h"
#include "ops/embed.h"
#include "ops/linear.h"
#include "ops/moe.h"
#include "ops/reference/random.h"
#include "ops/reference/reference_backend.h"
#include "ops/rms_norm.h"

namespace moxie {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A matrix of activations in either dtype that owns its memory.
class Matrix {
 public:
  Matrix(DType dtype, int64_t rows, int64_t cols)
      : dtype_(dtype),
        rows_(rows),
        cols_(cols),
        f32_(static_cast<size_t>(rows * cols)),
        bf16_(f32_.size()) {}
  Matrix(DType dtype, int64_t rows, int64_t cols, const std::vector<float>& values)
      : Matrix(dtype, rows, cols) {
    for (size_t i = 0; i < values.size(); ++i) {
      f32_[i] = values[i];
      bf16_[i] = to_bf16(values[i]);
    }
  }

  Rows view() {
    void* data = dtype_ == DType::kF32 ? static_cast<void*>(f32_.data()) : bf16_.data();
    return {data, dtype_, rows_, cols_, cols_};
  }
  float at(int64_t row, int64_t col) const {
    const auto i = static_cast<size_t>(row * cols_ + col);
    return dtype_ == DType::kF32 ? f32_[i] : to_float(bf16_[i]);
  }

 private:
  DType dtype_;
  int64_t rows_, cols_;
  std::vector<float> f32_;
  std::vector<bf16> bf16_;
};

class Reference : public testing::TestWithParam<DType> {
 protected:
  DType dtype = GetParam();
  std::unique_ptr<Backend> backend = make_reference_backend(dtype, 2);
  float rounded(double value) const {
    const auto nearest = static_cast<float>(value);
    return dtype == DType::kF32 ? nearest : round_to_bf16(nearest);
  }
};
INSTANTIATE_TEST_SUITE_P(DTypes, Reference, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& param_info) {
                           return std::string(name(param_info.param));
                         });

TEST_P(Reference, EmbedCopiesRowsOfTheTable) {
  std::vector<bf16> table(5 * 3);
  fill_normal(std::span(table), 1);
  const std::vector<int32_t> tokens = {4, 0, 4};
  Matrix out(dtype, 3, 3);
  backend->embed({.tokens = tokens, .table = {table.data(), 5, 3}, .out = out.view()});
  for (int64_t row = 0; row < 3; ++row)
    for (int64_t i = 0; i < 3; ++i)
      EXPECT_EQ(out.at(row, i),
                to_float(table[static_cast<size_t>(tokens[static_cast<size_t>(row)] * 3 + i)]));
}

TEST_P(Reference, RmsNormRoundsOnceAfterTheScale) {
  // mean of squares (9 + 16) / 2 = 12.5
  Matrix x(dtype, 1, 2, {3, -4}), out(dtype, 1, 2);
  const std::vector<float> scale = {1.1f, 0.3f};
  backend->rms_norm({.x = x.view(), .scale = scale.data(), .epsilon = 0.5f, .out = out.view()});
  EXPECT_EQ(out.at(0, 0), rounded(3 / std::sqrt(13.0) * static_cast<double>(1.1f)));
  EXPECT_EQ(out.at(0, 1), rounded(-4 / std::sqrt(13.0) * static_cast<double>(0.3f)));
}

TEST_P(Reference, LinearAddsBiasBeforeRoundingAndResidualAfter) {
  const std::vector<bf16> weight = {to_bf16(1), to_bf16(1), to_bf16(0), to_bf16(-2)};
  // bf16's spacing at 1 is 2^-7. Bias and residual are each less than half of that and vanish one
  // after the other; added before one rounding, they would give 1 + 2^-7.
  Matrix x(dtype, 1, 2, {1, 0}), residual(dtype, 1, 2, {0x1.8p-9f, 3}), out(dtype, 1, 2);
  const std::vector<float> bias = {0x1.8p-9f, 0.5f};
  const LinearArgs plain = {
      .x = x.view(), .weight = {weight.data(), 2, 2}, .bias = bias.data(), .out = out.view()};
  backend->linear(plain);
  EXPECT_EQ(out.at(0, 0), rounded(1 + 0x1.8p-9));
  EXPECT_EQ(out.at(0, 1), 0.5f);
  LinearArgs with_residual = plain;
  with_residual.residual = residual.view();
  backend->linear(with_residual);
  EXPECT_EQ(out.at(0, 0), dtype == DType::kF32 ? 1 + 0x1.8p-8f : 1.0f);
  EXPECT_EQ(out.at(0, 1), 3.5f);
}

TEST_P(Reference, LinearGivesUnroundedLogitsInFloat32) {
  const std::vector<bf16> weight = {to_bf16(1), to_bf16(0x1p-12f)};
  Matrix x(dtype, 1, 2, {1, 1}), out(DType::kF32, 1, 1);
  backend->linear({.x = x.view(), .weight = {weight.data(), 1, 2}, .out = out.view()});
  EXPECT_EQ(out.at(0, 0), 1 + 0x1p-12f);
}

TEST_P(Reference, LinearRoundsTheExactSumToNearestEven) {
  // 1 + 2^-8 + 2^-40: float32 would see the middle between two bf16 numbers and round to even (1).
  const std::vector<bf16> weight = {to_bf16(1), to_bf16(0x1p-8f), to_bf16(0x1p-40f)};
  Matrix x(dtype, 1, 3, {1, 1, 1}), out(dtype, 1, 1);
  backend->linear({.x = x.view(), .weight = {weight.data(), 1, 3}, .out = out.view()});
  EXPECT_EQ(out.at(0, 0), dtype == DType::kF32 ? 1 + 0x1p-8f : 1 + 0x1p-7f);
}

struct Heads {
  int64_t q, kv, dim;
};

// One sequence with its cache; keys and values are put there by rope().
struct Cache {
  Cache(DType dtype, const Heads& heads, int64_t capacity)
      : keys(dtype, heads.kv * capacity, heads.dim),
        values(dtype, heads.kv * capacity, heads.dim),
        view{keys.view().data, values.view().data, capacity} {}
  Matrix keys, values;
  KvView view;
};

TEST_P(Reference, RopePairsHalvesAndStoresKeysAndValues) {
  const Heads heads = {2, 1, 4};
  std::vector<float> values(2 * 16);
  fill_normal(std::span(values), 3);
  Matrix qkv(dtype, 2, 16, values);
  const Matrix before = qkv;
  const std::vector<float> cos = {0.5f, 0.1f, 0.25f, -0.3f}, sin = {0.75f, -0.2f, 1.0f, 0.7f};
  Cache cache(dtype, heads, 3);
  const SequenceRows sequence = {cache.view, 5, 0, 2};  // slots 5 % 3 and 6 % 3
  backend->rope({.qkv = qkv.view(),
                 .num_q_heads = 2,
                 .num_kv_heads = 1,
                 .head_dim = 4,
                 .cos = cos.data(),
                 .sin = sin.data(),
                 .sequences = {&sequence, 1}});
  for (int64_t row = 0; row < 2; ++row) {
    const int64_t slot = (5 + row) % 3;
    for (int64_t head = 0; head < 3; ++head) {
      for (int64_t d = 0; d < 2; ++d) {
        const auto at = static_cast<size_t>(row * 2 + d);
        const float c = rounded(cos[at]), s = rounded(sin[at]);
        const float a = before.at(row, head * 4 + d), b = before.at(row, head * 4 + d + 2);
        const float first = rounded(rounded(a * c) - rounded(b * s));
        const float second = rounded(rounded(b * c) + rounded(a * s));
        EXPECT_EQ(qkv.at(row, head * 4 + d), first);
        EXPECT_EQ(qkv.at(row, head * 4 + d + 2), second);
        if (head == 2) {
          EXPECT_EQ(cache.keys.at(slot, d), first);
          EXPECT_EQ(cache.keys.at(slot, d + 2), second);
          EXPECT_EQ(cache.values.at(slot, d), before.at(row, 12 + d));
          EXPECT_EQ(cache.values.at(slot, d + 2), before.at(row, 12 + d + 2));
        }
      }
    }
  }
}

// gpt-oss.md 5.2: logits 1 and 0 with sink 0.5 weigh 0.506480 and 0.186324.
TEST_P(Reference, AttentionSinkTakesPartOfTheWeight) {
  const Heads heads = {1, 1, 2};
  Cache cache(dtype, heads, 2);
  const Rows keys = cache.keys.view(), values = cache.values.view();
  const auto put = [&](const Rows& m, int64_t row, float a, float b) {
    for (int64_t i = 0; i < 2; ++i) {
      const float value = i == 0 ? a : b;
      if (dtype == DType::kF32)
        static_cast<float*>(m.data)[row * 2 + i] = value;
      else
        static_cast<bf16*>(m.data)[row * 2 + i] = to_bf16(value);
    }
  };
  put(keys, 0, 2, 0);
  put(keys, 1, 0, 0);
  put(values, 0, 1, 0);
  put(values, 1, 0, 1);
  Matrix q(dtype, 1, 2, {1, 0}), out(dtype, 1, 2);
  const float sink = 0.5f;
  const SequenceRows sequence = {cache.view, 1, 0, 1};
  AttentionArgs args = {.q = q.view(),
                        .num_q_heads = 1,
                        .num_kv_heads = 1,
                        .head_dim = 2,
                        .sinks = &sink,
                        .sm_scale = 0.5f,
                        .sequences = {&sequence, 1},
                        .out = out.view()};
  backend->attention(args);
  const double z = std::exp(1.0) + 1 + std::exp(0.5);
  EXPECT_NEAR(std::exp(1.0) / z, 0.506480, 5e-7);
  EXPECT_EQ(out.at(0, 0), rounded(std::exp(1.0) / z));
  EXPECT_EQ(out.at(0, 1), rounded(1 / z));
  args.window = 1;  // only the key of the row itself
  backend->attention(args);
  EXPECT_EQ(out.at(0, 0), 0);
  EXPECT_EQ(out.at(0, 1), rounded(1 / (1 + std::exp(0.5))));
}

TEST_P(Reference, AttentionOverARingEqualsAttentionOverAllSlots) {
  const Heads heads = {4, 2, 8};
  const int64_t width = (4 + 2 * 2) * 8, window = 5, chunk = 3, total = 23;
  Cache ring(dtype, heads, window - 1 + chunk), full(dtype, heads, total);
  std::vector<float> values(static_cast<size_t>(total * width));
  fill_normal(std::span(values), 4);
  const std::vector<float> cos(chunk * 4, 1), sin(chunk * 4, 0), sinks = {0, -1, 1, 2};
  for (int64_t start = 0; start < total; start += chunk) {
    const int64_t rows = std::min(chunk, total - start);
    Matrix outs[2] = {Matrix(dtype, rows, 32), Matrix(dtype, rows, 32)};
    for (int i = 0; i < 2; ++i) {
      Matrix qkv(dtype, rows, width,
                 {values.begin() + start * width, values.begin() + (start + rows) * width});
      const SequenceRows sequence = {i == 0 ? ring.view : full.view, start, 0, rows};
      backend->rope({.qkv = qkv.view(),
                     .num_q_heads = 4,
                     .num_kv_heads = 2,
                     .head_dim = 8,
                     .cos = cos.data(),
                     .sin = sin.data(),
                     .sequences = {&sequence, 1}});
      backend->attention({.q = columns(qkv.view(), 0, 32),
                          .num_q_heads = 4,
                          .num_kv_heads = 2,
                          .head_dim = 8,
                          .sinks = sinks.data(),
                          .sm_scale = 0.35f,
                          .window = window,
                          .sequences = {&sequence, 1},
                          .out = outs[i].view()});
    }
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < 32; ++i) ASSERT_EQ(outs[0].at(row, i), outs[1].at(row, i)) << start;
  }
}

TEST_P(Reference, RouteTakesLargerFirstThenTheSmallerIndexAndNaNLast) {
  Matrix logits(dtype, 4, 6,
                {1,    2,  0.25f, 1.5f, -1,         -2,    // the example of gpt-oss.md 6.1
                 7,    7,  7,     7,    7,          7,     //
                 kNaN, -5, kNaN,  -7,   -kInfinity, kNaN,  //
                 0,    3,  -0.0f, 3,    0,          0});
  std::vector<int32_t> ids(16);
  std::vector<float> weights(16);
  backend->route(
      {.logits = logits.view(), .experts_per_token = 4, .expert_ids = ids, .weights = weights});
  EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.begin() + 4), (std::vector<int32_t>{1, 3, 0, 2}));
  EXPECT_EQ(std::vector<int32_t>(ids.begin() + 4, ids.begin() + 8),
            (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(std::vector<int32_t>(ids.begin() + 8, ids.begin() + 12),
            (std::vector<int32_t>{1, 3, 4, 0}));
  EXPECT_EQ(std::vector<int32_t>(ids.begin() + 12, ids.end()), (std::vector<int32_t>{1, 3, 0, 2}));
  const std::vector<float> exact = {0.465509474f, 0.282345772f, 0.171251357f, 0.0808934122f};
  const std::vector<float> in_bf16 = {0.46484375f, 0.283203125f, 0.170898438f, 0.0810546875f};
  for (size_t i = 0; i < 4; ++i) {
    if (dtype == DType::kF32)
      EXPECT_NEAR(weights[i], exact[i], 1e-8f);
    else
      EXPECT_NEAR(weights[i], in_bf16[i], 1e-9f);
    EXPECT_EQ(weights[4 + i], 0.25f);
  }
}

// One expert whose first matrix is zero, so that its bias is z, and whose second is the identity.
TEST_P(Reference, MoeReproducesTheSwiGluVectors) {
  struct Vector {
    float gate, up, exact, in_bf16;
  };
  const std::vector<Vector> vectors = {{1, 0.5f, 1.26869365f, 1.265625f},
                                       {-1, -2, 0.154204234f, 0.154296875f},
                                       {2.5f, 7, 19.7201107f, 19.75f},
                                       {8, -9, -41.9997188f, -42},
                                       {100, 1, 13.9999063f, 14},
                                       {-7, -1, 0, 0},
                                       {0.5f, -0.25f, 0.262791327f, 0.263671875f},
                                       {-20, 3, -1.3173641e-13f, -1.3173641e-13f}};
  constexpr int64_t kInner = 32, kHidden = 32;
  const std::vector<uint8_t> zero_codes(2 * kInner * 16), zero_scales(2 * kInner, 127);
  std::vector<uint8_t> identity(kHidden * 16), ones(kHidden, 127);
  for (size_t i = 0; i < 32; ++i) identity[i * 16 + i / 2] = i % 2 == 0 ? 0x02 : 0x20;
  std::vector<float> bias(2 * kInner), down_bias(kHidden);
  for (size_t i = 0; i < vectors.size(); ++i) {
    bias[2 * i] = vectors[i].gate;
    bias[2 * i + 1] = vectors[i].up;
  }
  Matrix x(dtype, 1, kHidden), out(dtype, 1, kHidden);
  const int32_t id = 0;
  const float weight = 1;
  backend->moe({.x = x.view(),
                .experts_per_token = 1,
                .expert_ids = {&id, 1},
                .weights = {&weight, 1},
                .gate_up = {zero_codes.data(), zero_scales.data(), 1, 2 * kInner, kHidden},
                .down = {identity.data(), ones.data(), 1, kHidden, kInner},
                .gate_up_bias = bias.data(),
                .down_bias = down_bias.data(),
                .out = out.view()});
  for (size_t i = 0; i < vectors.size(); ++i) {
    const float want = dtype == DType::kF32 ? vectors[i].exact : vectors[i].in_bf16;
    // The table's nine digits, and alpha's own rounding to float32 in the exponent; the bf16 column
    // gives the last vector unrounded.
    const float precision = dtype == DType::kBF16 ? (std::abs(want) < 1e-9f ? 0x1p-8f : 0)
                                                  : (1 + std::abs(vectors[i].gate)) * 0x1p-24f;
    EXPECT_NEAR(out.at(0, static_cast<int64_t>(i)), want, precision * std::abs(want)) << i;
  }
}

TEST_P(Reference, MoeEqualsItsFormulaAndRowsDoNotSeeEachOther) {
  constexpr int64_t kRows = 7, kExperts = 5, kChosen = 2, kHidden = 96, kInner = 64;
  const RandomMxfp4 gate_up(kExperts, 2 * kInner, kHidden, 11), down(kExperts, kHidden, kInner, 12);
  std::vector<float> values(kRows * kHidden), bias(kExperts * 2 * kInner),
      down_bias(kExperts * kHidden), weights(kRows * kChosen);
  fill_normal(std::span(values), 13, 8);
  fill_normal(std::span(bias), 14);
  fill_normal(std::span(down_bias), 15);
  std::vector<int32_t> ids(kRows * kChosen);
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(i % 4 == 3 ? 0 : i % 4 + 1);
    weights[i] = 0.25f + 0.5f * static_cast<float>(i % 2);
  }
  Matrix x(dtype, kRows, kHidden, values), out(dtype, kRows, kHidden);
  MoeArgs args = {.x = x.view(),
                  .experts_per_token = kChosen,
                  .expert_ids = ids,
                  .weights = weights,
                  .gate_up = gate_up.view,
                  .down = down.view,
                  .gate_up_bias = bias.data(),
                  .down_bias = down_bias.data(),
                  .residual = x.view(),
                  .out = out.view()};
  backend->moe(args);

  const auto weight_at = [](const Mxfp4Matrices& m, int64_t e, int64_t row, int64_t col) {
    float block[32];
    const int64_t at = (e * m.n + row) * (m.k / 32) + col / 32;
    mxfp4::decode_block(m.codes + at * 16, m.scales[at], block);
    return static_cast<double>(block[col % 32]);
  };
  for (int64_t row = 0; row < kRows; ++row) {
    std::vector<double> sum(kHidden), size(kHidden);
    for (int64_t i = 0; i < kChosen; ++i) {
      const auto slot = static_cast<size_t>(row * kChosen + i);
      const int64_t e = ids[slot];
      std::vector<double> a(kInner);
      for (int64_t j = 0; j < kInner; ++j) {
        double z[2];
        for (int64_t half = 0; half < 2; ++half) {
          z[half] = bias[static_cast<size_t>(e * 2 * kInner + 2 * j + half)];
          for (int64_t k = 0; k < kHidden; ++k)
            z[half] +=
                static_cast<double>(x.at(row, k)) * weight_at(gate_up.view, e, 2 * j + half, k);
        }
        const double gate = std::min(z[0], 7.0), up = std::clamp(z[1], -7.0, 7.0);
        a[static_cast<size_t>(j)] =
            rounded(gate / (1 + std::exp(-static_cast<double>(1.702f) * gate)) * (up + 1));
      }
      for (int64_t k = 0; k < kHidden; ++k) {
        double y = down_bias[static_cast<size_t>(e * kHidden + k)];
        for (int64_t j = 0; j < kInner; ++j)
          y += a[static_cast<size_t>(j)] * weight_at(down.view, e, k, j);
        sum[static_cast<size_t>(k)] += rounded(y * static_cast<double>(weights[slot]));
        size[static_cast<size_t>(k)] += std::abs(y);
      }
    }
    // Another order of summation may move a float32 or bf16 rounding by one unit in the last place.
    const double ulp = dtype == DType::kF32 ? 0x1p-23 : 0x1p-7;
    for (int64_t k = 0; k < kHidden; ++k) {
      const auto i = static_cast<size_t>(k);
      const double want = rounded(x.at(row, k) + rounded(sum[i]));
      EXPECT_NEAR(out.at(row, k), want, ulp * (std::abs(want) + size[i])) << row << " " << k;
    }
    // The same row alone.
    Matrix one(dtype, 1, kHidden,
               {values.begin() + row * kHidden, values.begin() + (row + 1) * kHidden});
    Matrix alone(dtype, 1, kHidden);
    MoeArgs single = args;
    single.x = single.residual = one.view();
    single.expert_ids = std::span(ids).subspan(static_cast<size_t>(row * kChosen), kChosen);
    single.weights = std::span(weights).subspan(static_cast<size_t>(row * kChosen), kChosen);
    single.out = alone.view();
    backend->moe(single);
    for (int64_t k = 0; k < kHidden; ++k) ASSERT_EQ(alone.at(0, k), out.at(row, k));
  }
}

TEST_P(Reference, EveryThreadCountGivesTheSameBits) {
  constexpr int64_t kRows = 33, kN = 40, kK = 96;
  std::vector<float> values(kRows * kK);
  std::vector<bf16> weight(kN * kK);
  fill_normal(std::span(values), 21);
  fill_normal(std::span(weight), 22);
  Matrix x(dtype, kRows, kK, values), one(dtype, kRows, kN), three(dtype, kRows, kN);
  LinearArgs args = {.x = x.view(), .weight = {weight.data(), kN, kK}, .out = one.view()};
  make_reference_backend(dtype, 1)->linear(args);
  args.out = three.view();
  make_reference_backend(dtype, 3)->linear(args);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t i = 0; i < kN; ++i) ASSERT_EQ(one.at(row, i), three.at(row, i));
}

TEST_P(Reference, NaNAndInfinityInOneRowStayThere) {
  constexpr int64_t kHidden = 32, kInner = 32;
  const RandomMxfp4 gate_up(2, 2 * kInner, kHidden, 31), down(2, kHidden, kInner, 32);
  const std::vector<float> bias(2 * 2 * kInner), down_bias(2 * kHidden);
  std::vector<float> values(3 * kHidden, 1);
  values[5] = kNaN;
  values[kHidden + 7] = kInfinity;
  Matrix x(dtype, 3, kHidden, values), out(dtype, 3, kHidden);
  const std::vector<int32_t> ids = {0, 0, 0};
  const std::vector<float> weights = {1, 1, 1};
  backend->moe({.x = x.view(),
                .experts_per_token = 1,
                .expert_ids = ids,
                .weights = weights,
                .gate_up = gate_up.view,
                .down = down.view,
                .gate_up_bias = bias.data(),
                .down_bias = down_bias.data(),
                .residual = x.view(),
                .out = out.view()});
  for (int64_t i = 0; i < kHidden; ++i) {
    EXPECT_TRUE(std::isnan(out.at(0, i))) << i;
    EXPECT_TRUE(std::isfinite(out.at(2, i))) << i;
  }
  EXPECT_FALSE(std::isfinite(out.at(1, 7)));
}

TEST(RandomData, IsTheSameEverywhereAndNormal) {
  EXPECT_EQ(random_bits(0, 0), 0xe220a8397b1dcdafu);  // SplitMix64's first number from seed 0
  double sum = 0, squares = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double value = random_normal(5, static_cast<uint64_t>(i));
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.02);  // six deviations of the mean
  EXPECT_NEAR(squares / kCount, 1, 0.03);
}

}  // namespace
}  // namespace moxie
