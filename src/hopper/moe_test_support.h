// Problems for tests of the experts block, and what their results may be. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "cuda/device.h"
#include "hopper/moe_grouped.h"
#include "hopper/test_support.h"
#include "mxfp4/block.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {

inline size_t idx(int64_t i) { return static_cast<size_t>(i); }

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

inline Matrices random_matrices(int experts, int n, int k, unsigned seed, int low_scale,
                                int high_scale) {
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

inline Problem random_problem(const MoeSizes& sizes, int low_scale = 116, int high_scale = 122) {
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

// A problem in the GPU's memory, and arguments for it without logits or with.
struct OnGpu {
  cuda::DeviceBuffer<uint8_t> up_codes, up_scales, down_codes, down_scales;
  cuda::DeviceBuffer<float> up_bias, down_bias, weights;
  cuda::DeviceBuffer<bf16> x, residual, logits, out;
  cuda::DeviceBuffer<int32_t> ids;
  MoeGroupedArgs args;

  OnGpu(const Problem& p, bool from_logits, bool with_residual)
      : up_bias(p.gate_up.bias),
        down_bias(p.down.bias),
        weights(p.weights),
        x(p.x),
        residual(p.residual),
        logits(p.logits),
        // Poison, so that an output nobody wrote shows.
        out(std::vector<bf16>(idx(p.sizes.rows * p.sizes.hidden), bf16{0x7fff})),
        ids(p.ids) {
    Matrices up = p.gate_up, down = p.down;
    for (Matrices* m : {&up, &down})
      for (int e = 0; e < m->experts; ++e)
        mxfp4::prepack(m->n, m->k, m->codes.data() + idx(e) * idx(m->n) * idx(m->k / 2),
                       m->scales.data() + idx(e) * idx(m->n) * idx(m->k / 32));
    up_codes = cuda::DeviceBuffer<uint8_t>(up.codes);
    up_scales = cuda::DeviceBuffer<uint8_t>(up.scales);
    down_codes = cuda::DeviceBuffer<uint8_t>(down.codes);
    down_scales = cuda::DeviceBuffer<uint8_t>(down.scales);
    args.sizes = p.sizes;
    args.x = x.data(), args.x_stride = p.sizes.hidden;
    if (from_logits) {
      args.logits = logits.data(), args.logits_stride = p.sizes.all_experts;
    } else {
      args.expert_ids = ids.data(), args.weights = weights.data();
    }
    args.gate_up_codes = up_codes.data(), args.gate_up_scales = up_scales.data();
    args.down_codes = down_codes.data(), args.down_scales = down_scales.data();
    args.gate_up_bias = up_bias.data(), args.down_bias = down_bias.data();
    if (with_residual) args.residual = residual.data();
    args.residual_stride = p.sizes.hidden;
    args.out = out.data(), args.out_stride = p.sizes.hidden;
  }
};

inline double half_ulp(double value) {  // of bf16
  return std::ldexp(1.0, std::max(std::ilogb(std::max(std::fabs(value), 0x1p-126)), -126) - 8);
}

// A value and a bound of what a kernel within the contract may differ from it.
struct Bounded {
  double value = 0, error = 0;
};

// Product 1 of one row and expert.
inline std::vector<Bounded> inner_values(const Problem& p, int64_t row, int e) {
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

// What a kernel gave, against the sum in double precision. `what` names it.
inline void expect_within_moe_bound(const Problem& p, const std::vector<bf16>& got,
                                    bool with_residual, const std::string& what,
                                    int64_t row_step = 1) {
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
      if (with_residual) {
        want.value += to_float(p.residual[idx(row * s.hidden + f)]);
        want.error += half_ulp(std::fabs(want.value) + want.error) * (1 + 0x1p-6);
      }
      ASSERT_LE(std::fabs(to_float(got[idx(row * s.hidden + f)]) - want.value), want.error)
          << s.rows << " rows, hidden " << s.hidden << ", inner " << s.inner << ", row " << row
          << " feature " << f << " " << what;
    }
  }
}

inline MoeSizes sizes(int64_t rows, int hidden, int inner, int experts, int per_token) {
  return {rows, hidden, inner, experts, experts, 0, per_token};
}

}  // namespace moxie::hopper
