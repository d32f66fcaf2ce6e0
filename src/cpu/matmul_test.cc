// linear() and moe() in every instruction set the machine has, and on emulated AMX tiles.
#include "cpu/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpu/matmul_test_support.h"
#include "moxie/error.h"
#include "mxfp4/block.h"
#include "ops/reference/random.h"

namespace moxie::cpu {
namespace {

double half_ulp(DType dtype, double exact) {
  int exponent = 0;
  std::frexp(exact, &exponent);
  const int bits = dtype == DType::kBF16 ? 8 : 24;
  return std::ldexp(1.0, std::max(exponent - 1, -126) - bits);
}

struct Machine {
  ThreadPool pool;
  std::vector<uint64_t> memory;
  Context context;

  Machine(int num_threads, const BackendLimits& limits, int64_t scratch_bytes)
      : pool(num_threads),
        memory(static_cast<size_t>(scratch_bytes / 8 + 8)),
        context{.pool = pool, .isa = Isa::kScalar, .limits = limits, .scratch = {}} {
    auto begin = reinterpret_cast<uintptr_t>(memory.data());
    begin = (begin + 63) / 64 * 64;
    context.scratch = {reinterpret_cast<uint8_t*>(begin), static_cast<size_t>(scratch_bytes)};
    // What a kernel reads without having written it is NaN.
    std::memset(context.scratch.data(), 0xff, context.scratch.size());
  }
};

// --- linear ---

struct Shape {
  int64_t rows, n, k;
};

std::string to_string(const Shape& shape) {
  return std::to_string(shape.rows) + "x" + std::to_string(shape.n) + "x" + std::to_string(shape.k);
}

struct LinearProblem {
  int64_t rows, n, k, x_stride, out_stride;
  std::vector<bf16> x, weight_memory, residual;
  std::vector<float> bias;
  bool with_residual = true;
  DType out_dtype = DType::kBF16;

  explicit LinearProblem(const Shape& shape)
      : rows(shape.rows),
        n(shape.n),
        k(shape.k),
        x_stride(shape.k + 3),
        out_stride(shape.n + 5),
        x(static_cast<size_t>(rows * x_stride)),
        weight_memory(static_cast<size_t>(n * k) + 1),
        residual(static_cast<size_t>(rows * out_stride)),
        bias(static_cast<size_t>(n)) {
    fill_normal(std::span(x), 1);
    fill_normal(std::span(weight_memory), 2, 0.1f);
    fill_normal(std::span(residual), 3);
    fill_normal(std::span(bias), 4);
  }

  const bf16* weight() const { return weight_memory.data() + 1; }  // odd multiple of two bytes

  LinearArgs args(Phase phase, int64_t first, int64_t count, void* out) const {
    LinearArgs args;
    args.phase = phase;
    args.x = {x.data() + first * x_stride, DType::kBF16, count, k, x_stride};
    args.weight = {weight(), n, k};
    args.bias = bias.data();
    if (with_residual && out_dtype == DType::kBF16)
      args.residual = {residual.data() + first * out_stride, DType::kBF16, count, n, out_stride};
    args.out = {out, out_dtype, count, n, out_stride};
    return args;
  }

  // Rows [first, first + count) computed in one call; the gaps between rows must stay.
  template <class T>
  std::vector<T> run(const MatmulKernels& kernels, Phase phase, int64_t first, int64_t count,
                     int num_threads = 2) const {
    const BackendLimits limits{.max_rows = count, .hidden_size = k};
    Machine machine(num_threads, limits, linear_scratch_bytes_with(kernels, limits, num_threads));
    std::vector<T> out(static_cast<size_t>(count * out_stride));
    std::ranges::fill(std::as_writable_bytes(std::span(out)), std::byte{0x5a});
    linear_with(kernels, args(phase, first, count, out.data()), machine.context);
    for (int64_t row = 0; row < count; ++row) {
      const auto* gap = reinterpret_cast<const uint8_t*>(out.data() + row * out_stride + n);
      for (size_t i = 0; i < sizeof(T) * static_cast<size_t>(out_stride - n); ++i)
        EXPECT_EQ(gap[i], 0x5a) << "written behind row " << row;
    }
    return out;
  }
};

template <class T>
void expect_linear_within_bound(const LinearProblem& p, const std::vector<T>& out,
                                const std::string& where) {
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t f = 0; f < p.n; ++f) {
      double exact = 0, magnitude = 0;
      for (int64_t i = 0; i < p.k; ++i) {
        const double product = static_cast<double>(to_float(p.x[row * p.x_stride + i])) *
                               to_float(p.weight()[f * p.k + i]);
        exact += product;
        magnitude += std::abs(product);
      }
      exact += p.bias[f];
      double bound = half_ulp(p.out_dtype, exact) + static_cast<double>(p.k) * 0x1p-23 * magnitude +
                     0x1p-22 * std::abs(exact);
      if (p.with_residual && p.out_dtype == DType::kBF16) {
        exact += to_float(p.residual[row * p.out_stride + f]);
        bound += half_ulp(p.out_dtype, exact) + bound * 0x1p-7;
      }
      ASSERT_NEAR(to_float(out[row * p.out_stride + f]), exact, bound)
          << where << " row " << row << " feature " << f;
    }
  }
}

const Shape kShapes[] = {{0, 5, 7},     {1, 1, 1},    {1, 17, 33},    {2, 32, 64},  {3, 40, 31},
                         {4, 95, 96},   {5, 97, 127}, {15, 33, 288},  {16, 64, 32}, {17, 256, 290},
                         {31, 47, 320}, {33, 65, 70}, {49, 130, 481}, {64, 31, 99}, {260, 40, 65}};

TEST(Linear, StaysWithinItsErrorBound) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      for (const Shape& shape : kShapes) {
        const std::string where = std::string(kernels->name) + " " + to_string(shape);
        LinearProblem problem(shape);
        expect_linear_within_bound(problem, problem.run<bf16>(*kernels, phase, 0, shape.rows),
                                   where);
        problem.out_dtype = DType::kF32;
        expect_linear_within_bound(problem, problem.run<float>(*kernels, phase, 0, shape.rows),
                                   where + " float32");
      }
    }
  }
}

TEST(Linear, RowDoesNotDependOnItsBatchNorOnTheNumberOfThreads) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      for (const Shape& shape : {Shape{70, 50, 610}, Shape{7, 300, 96}}) {
        const LinearProblem problem(shape);
        const auto together = problem.run<bf16>(*kernels, phase, 0, shape.rows);
        EXPECT_EQ(together, problem.run<bf16>(*kernels, phase, 0, shape.rows, 3)) << kernels->name;
        const auto stride = problem.out_stride;
        for (int64_t row = 0; row < shape.rows; ++row) {
          const auto alone = problem.run<bf16>(*kernels, phase, row, 1, 1);
          ASSERT_TRUE(
              std::equal(alone.begin(), alone.begin() + shape.n, together.begin() + row * stride))
              << kernels->name << " row " << row;
        }
      }
    }
  }
}

TEST(Linear, ManyRowsAreTakenInSeveralPasses) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      const LinearProblem problem({1030, 3, 32});
      expect_linear_within_bound(problem, problem.run<bf16>(*kernels, phase, 0, 1030),
                                 kernels->name);
    }
  }
}

TEST(Linear, NanAndInfinityStayInTheirRowAndFeature) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      LinearProblem problem({18, 21, 67});
      const auto clean = problem.run<bf16>(*kernels, phase, 0, 18);
      problem.x[5 * problem.x_stride + 66] = to_bf16(std::numeric_limits<float>::quiet_NaN());
      problem.weight_memory[1 + 20 * 67 + 66] = to_bf16(std::numeric_limits<float>::infinity());
      const auto out = problem.run<bf16>(*kernels, phase, 0, 18);
      for (int64_t row = 0; row < 18; ++row) {
        for (int64_t f = 0; f < 21; ++f) {
          const float value = to_float(out[row * problem.out_stride + f]);
          if (row == 5)
            ASSERT_TRUE(std::isnan(value)) << kernels->name << " " << f;
          else if (f == 20)
            ASSERT_TRUE(std::isinf(value)) << kernels->name << " row " << row;
          else
            ASSERT_EQ(out[row * problem.out_stride + f], clean[row * problem.out_stride + f]);
        }
      }
    }
  }
}

TEST(Linear, ResidualMayBeTheOutput) {
  for (const MatmulKernels* kernels : all_kernels()) {
    const LinearProblem problem({19, 37, 64});
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      const auto want = problem.run<bf16>(*kernels, phase, 0, 19);
      const BackendLimits limits{.max_rows = 19, .hidden_size = 64};
      Machine machine(2, limits, linear_scratch_bytes_with(*kernels, limits, 2));
      std::vector<bf16> out = problem.residual;
      LinearArgs args = problem.args(phase, 0, 19, out.data());
      args.residual = args.out;
      linear_with(*kernels, args, machine.context);
      for (int64_t row = 0; row < 19; ++row)
        for (int64_t f = 0; f < 37; ++f)
          ASSERT_EQ(out[row * problem.out_stride + f], want[row * problem.out_stride + f]);
    }
  }
}

// Where the processor has AMX, it and the emulation must agree in every bit; elsewhere this holds
// the code as compiled against the same written over emulated tiles.
TEST(Linear, EmulatedTilesAgreeWithTheProcessor) {
  const auto isas = usable_or_trapped_isas();
  if (isas.back() != Isa::kAmx) GTEST_SKIP() << "this processor has no AVX-512 BF16";
  for (const Shape& shape : {Shape{33, 70, 610}, Shape{16, 32, 32}, Shape{1, 5, 99}}) {
    const LinearProblem problem(shape);
    EXPECT_EQ(problem.run<bf16>(matmul_kernels(Isa::kAmx), Phase::kPrefill, 0, shape.rows),
              problem.run<bf16>(matmul_kernels_amx_emulated(), Phase::kPrefill, 0, shape.rows));
  }
}

// --- moe ---

struct MoeProblem {
  int64_t rows, hidden, inner, experts, chosen;
  RandomMxfp4 gate_up, down;
  std::vector<bf16> x, residual;
  std::vector<float> gate_up_bias, down_bias, weights;
  std::vector<int32_t> ids;
  int64_t first_expert = 0, local_experts = 0;  // 0: all
  ForeignExperts foreign = ForeignExperts::kRefuse;

  MoeProblem(int64_t rows_, int64_t hidden_, int64_t inner_, int64_t experts_, int64_t chosen_,
             uint64_t seed = 1)
      : rows(rows_),
        hidden(hidden_),
        inner(inner_),
        experts(experts_),
        chosen(chosen_),
        gate_up(experts, 2 * inner, hidden, seed),
        down(experts, hidden, inner, seed + 2),
        x(static_cast<size_t>(rows * hidden)),
        residual(x.size()),
        gate_up_bias(static_cast<size_t>(experts * 2 * inner)),
        down_bias(static_cast<size_t>(experts * hidden)),
        weights(static_cast<size_t>(rows * chosen)),
        ids(weights.size()) {
    fill_normal(std::span(x), seed + 4);
    fill_normal(std::span(residual), seed + 5);
    fill_normal(std::span(gate_up_bias), seed + 6);
    fill_normal(std::span(down_bias), seed + 7);
    for (size_t i = 0; i < ids.size(); ++i) {
      weights[i] = round_to_bf16(random_uniform(seed + 8, i));
      // Skewed: low experts are hit more often, the last one never.
      const float u = random_uniform(seed + 9, i);
      ids[i] = static_cast<int32_t>(u * u * static_cast<float>(experts - 1));
    }
  }

  // `count` rows from `first` on.
  MoeArgs args(int64_t start, int64_t count, bf16* out) const {
    MoeArgs args;
    args.x = {x.data() + start * hidden, DType::kBF16, count, hidden, hidden};
    args.experts_per_token = chosen;
    const auto slots = static_cast<size_t>(count * chosen);
    args.expert_ids = std::span(ids).subspan(static_cast<size_t>(start * chosen), slots);
    args.weights = std::span(weights).subspan(static_cast<size_t>(start * chosen), slots);
    args.first_expert = first_expert;
    args.foreign = foreign;
    const int64_t here = local_experts > 0 ? local_experts : experts;
    args.gate_up = {gate_up.view.expert_codes(first_expert),
                    gate_up.view.expert_scales(first_expert), here, 2 * inner, hidden};
    args.down = {down.view.expert_codes(first_expert), down.view.expert_scales(first_expert), here,
                 hidden, inner};
    args.gate_up_bias = gate_up_bias.data() + first_expert * 2 * inner;
    args.down_bias = down_bias.data() + first_expert * hidden;
    args.residual = {residual.data() + start * hidden, DType::kBF16, count, hidden, hidden};
    args.out = {out, DType::kBF16, count, hidden, hidden};
    return args;
  }

  std::vector<bf16> run(const MatmulKernels& kernels, Phase phase, int64_t start, int64_t count,
                        int num_threads = 2) const {
    const BackendLimits limits{.max_rows = count,
                               .hidden_size = hidden,
                               .intermediate_size = inner,
                               .num_experts = experts,
                               .experts_per_token = chosen};
    Machine machine(num_threads, limits, moe_scratch_bytes_with(kernels, limits, num_threads));
    std::vector<bf16> out(static_cast<size_t>(count * hidden), bf16{0x5a5a});
    MoeArgs of_rows = args(start, count, out.data());
    of_rows.phase = phase;
    moe_with(kernels, of_rows, machine.context);
    return out;
  }
};

// x * weights[e]^T in float64, with the sum of magnitudes.
struct Exact {
  double value, magnitude;
};
Exact exact_dot(const Mxfp4Matrices& m, int64_t e, int64_t f, const std::vector<double>& x) {
  std::vector<float> row(static_cast<size_t>(m.k));
  mxfp4::decode_row(m.expert_codes(e) + f * (m.k / 2), m.expert_scales(e) + f * (m.k / 32), m.k,
                    row.data());
  Exact sum{0, 0};
  for (size_t i = 0; i < row.size(); ++i) {
    sum.value += row[i] * x[i];
    sum.magnitude += std::abs(row[i] * x[i]);
  }
  return sum;
}

// One row in float64 without the inner roundings, and how far those may move the result: errors
// of each step, propagated linearly, with 1 % for the products of errors.
void expect_row_within_bound(const MoeProblem& p, int64_t row, const bf16* out,
                             const std::string& where) {
  const double alpha = 1.702, limit = 7;
  std::vector<double> x(static_cast<size_t>(p.hidden));
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = to_float(p.x[static_cast<size_t>(row * p.hidden) + i]);
  std::vector<double> sum(x.size()), error(x.size());
  for (int64_t slot = row * p.chosen; slot < (row + 1) * p.chosen; ++slot) {
    const int64_t e = p.ids[static_cast<size_t>(slot)];
    std::vector<double> a(static_cast<size_t>(p.inner)), a_error(a.size());
    for (int64_t j = 0; j < p.inner; ++j) {
      const auto z = [&](int64_t f, double& z_error) {
        const Exact dot = exact_dot(p.gate_up.view, e, f, x);
        const double value = dot.value + p.gate_up_bias[e * 2 * p.inner + f];
        z_error =
            static_cast<double>(p.hidden) * 0x1p-23 * dot.magnitude + 0x1p-23 * std::abs(value);
        return value;
      };
      double g_error = 0, u_error = 0;
      const double g = std::min(z(2 * j, g_error), limit);
      const double u = std::clamp(z(2 * j + 1, u_error), -limit, limit);
      const double sigmoid = 1 / (1 + std::exp(-alpha * g));
      const double value = g * sigmoid * (u + 1);
      // |d(g sigmoid(alpha g))/dg| < 1.1; sigmoid to 2^-20 + |alpha g| 2^-24.
      a[j] = value;
      a_error[j] = half_ulp(DType::kBF16, value) +
                   1.01 * (1.1 * g_error * std::abs(u + 1) + std::abs(g * sigmoid) * u_error +
                           std::abs(value) * (0x1p-20 + std::abs(alpha * g) * 0x1p-24));
    }
    const double w = p.weights[static_cast<size_t>(slot)];
    for (int64_t f = 0; f < p.hidden; ++f) {
      const Exact dot = exact_dot(p.down.view, e, f, a);
      std::vector<float> decoded(static_cast<size_t>(p.inner));
      mxfp4::decode_row(p.down.view.expert_codes(e) + f * (p.inner / 2),
                        p.down.view.expert_scales(e) + f * (p.inner / 32), p.inner, decoded.data());
      double from_a = 0;
      for (size_t j = 0; j < decoded.size(); ++j) from_a += std::abs(decoded[j]) * a_error[j];
      const double y = (dot.value + p.down_bias[e * p.hidden + f]) * w;
      sum[f] += y;
      error[f] += half_ulp(DType::kBF16, y) * 1.01 + 0x1p-22 * std::abs(y) +
                  1.01 * w * (from_a + static_cast<double>(p.inner) * 0x1p-23 * dot.magnitude);
    }
  }
  for (int64_t f = 0; f < p.hidden; ++f) {
    const double exact = sum[f] + to_float(p.residual[row * p.hidden + f]);
    const double bound = error[f] +
                         1.01 * (half_ulp(DType::kBF16, std::abs(sum[f]) + error[f]) +
                                 half_ulp(DType::kBF16, std::abs(exact) + error[f])) +
                         0x1p-20 * std::abs(sum[f]);
    ASSERT_NEAR(to_float(out[f]), exact, bound) << where << " row " << row << " feature " << f;
  }
}

TEST(Moe, StaysWithinItsErrorBound) {
  struct Case {
    int64_t rows, hidden, inner, experts, chosen;
  };
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      for (const Case& c :
           {Case{0, 32, 32, 2, 1}, Case{1, 32, 64, 4, 4}, Case{3, 96, 32, 3, 2},
            Case{17, 160, 96, 5, 2}, Case{40, 64, 160, 4, 3}, Case{9, 512, 352, 3, 2},
            Case{190, 96, 64, 2, 1}, Case{61, 64, 96, 1, 1}, Case{75, 96, 32, 1, 1},
            Case{110, 64, 32, 1, 1}, Case{200, 64, 32, 1, 1}}) {
        const MoeProblem problem(c.rows, c.hidden, c.inner, c.experts, c.chosen);
        const auto out = problem.run(*kernels, phase, 0, c.rows);
        for (int64_t row = 0; row < c.rows; ++row)
          expect_row_within_bound(
              problem, row, out.data() + row * c.hidden,
              std::string(kernels->name) + (phase == Phase::kPrefill ? " prefill" : " decode"));
      }
    }
  }
}

TEST(Moe, RowDoesNotDependOnItsBatchNorOnTheNumberOfThreads) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      const MoeProblem problem(75, 320, 192, 5, 3);
      const auto together = problem.run(*kernels, phase, 0, problem.rows);
      EXPECT_EQ(together, problem.run(*kernels, phase, 0, problem.rows, 3)) << kernels->name;
      for (int64_t row = 0; row < problem.rows; ++row) {
        const auto alone = problem.run(*kernels, phase, row, 1, 1);
        ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + row * problem.hidden))
            << kernels->name << " row " << row;
      }
    }
  }
}

TEST(Moe, ManyRowsAreTakenInSeveralPasses) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      const MoeProblem problem(1030, 32, 32, 3, 2);
      const auto out = problem.run(*kernels, phase, 0, problem.rows);
      for (const int64_t row : {0, 255, 256, 1023, 1024, 1029})
        expect_row_within_bound(problem, row, out.data() + row * 32, kernels->name);
    }
  }
}

TEST(Moe, EverybodyOnOneExpert) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      MoeProblem problem(300, 64, 64, 4, 1);
      std::fill(problem.ids.begin(), problem.ids.end(), 3);
      const auto out = problem.run(*kernels, phase, 0, problem.rows);
      for (int64_t row = 0; row < problem.rows; ++row)
        expect_row_within_bound(problem, row, out.data() + row * 64, kernels->name);
    }
  }
}

TEST(Moe, RefusesExpertsThatAreNotThere) {
  MoeProblem problem(2, 32, 32, 3, 2);
  problem.ids[3] = 3;
  EXPECT_THROW(problem.run(matmul_kernels_scalar(), Phase::kDecode, 0, 2), Error);
  problem.ids[3] = -1;
  EXPECT_THROW(problem.run(matmul_kernels_scalar(), Phase::kPrefill, 0, 2), Error);
}

// Slots of experts 0 and 4 are foreign in one way or another and have NaN as weight: they are as
// if their weight were 0 and their experts here.
TEST(Moe, SkipsForeignExpertsWhereToldTo) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      MoeProblem problem(70, 64, 96, 5, 3);
      for (size_t i = 0; i < problem.ids.size(); ++i)
        problem.ids[i] = static_cast<int32_t>(random_bits(77, i) % 5);
      MoeProblem all(70, 64, 96, 5, 3);
      all.ids = problem.ids;
      const int32_t sentinels[] = {-1, 0, 4, 5, INT32_MIN, INT32_MAX};
      for (size_t i = 0; i < problem.ids.size(); ++i) {
        if (problem.ids[i] != 0 && problem.ids[i] != 4) continue;
        all.weights[i] = 0;
        problem.weights[i] = std::numeric_limits<float>::quiet_NaN();
        problem.ids[i] = sentinels[i % 6];
      }
      const auto want = all.run(*kernels, phase, 0, all.rows);
      EXPECT_THROW(problem.run(*kernels, phase, 0, problem.rows), Error);
      problem.first_expert = 1;
      problem.local_experts = 3;
      EXPECT_THROW(problem.run(*kernels, phase, 0, problem.rows), Error);
      problem.foreign = ForeignExperts::kSkip;
      EXPECT_EQ(problem.run(*kernels, phase, 0, problem.rows), want) << kernels->name;
      std::fill(problem.ids.begin(), problem.ids.end(), -1);
      EXPECT_EQ(problem.run(*kernels, phase, 0, problem.rows), problem.residual) << kernels->name;
    }
  }
}

TEST(Moe, RefusesWhatTheCpuDoesNotDo) {
  const MoeProblem problem(2, 32, 32, 3, 2);
  const auto refusal = [&](auto&& change) {
    const BackendLimits limits{.max_rows = 2,
                               .hidden_size = 32,
                               .intermediate_size = 32,
                               .num_experts = 3,
                               .experts_per_token = 2};
    const MatmulKernels& kernels = matmul_kernels_scalar();
    Machine machine(1, limits, moe_scratch_bytes_with(kernels, limits, 1));
    std::vector<bf16> out(64);
    MoeArgs args = problem.args(0, 2, out.data());
    change(args);
    try {
      moe_with(kernels, args, machine.context);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal([](MoeArgs&) {}), "");
  EXPECT_EQ(refusal([&](MoeArgs& a) { a.logits = a.x; }),
            "the CPU's moe takes the choice of route, expert_ids and weights, not logits");
  EXPECT_EQ(refusal([](MoeArgs& a) { a.layout = Mxfp4Layout::kPrepacked; }),
            "the CPU kernels read weights in the checkpoint's layout, not prepacked ones");
  EXPECT_EQ(refusal([](MoeArgs& a) { a.down_bias = nullptr; }),
            "the CPU kernels need the biases of moe; give zeros where there are none");
}

}  // namespace
}  // namespace moxie::cpu
