#include "ops/reference/moe.h"

#include <cmath>

#include "base/thread_pool.h"
#include "ops/reference/route.h"
#include "ops/reference/weights.h"

namespace moxie {
namespace {

float load(const ConstRows& x, int64_t row, int64_t col) {
  const int64_t at = row * x.stride + col;
  return x.dtype == DType::kBF16 ? to_float(static_cast<const bf16*>(x.data)[at])
                                 : static_cast<const float*>(x.data)[at];
}

// x * w + bias where the x have bounds themselves.
Bounded bounded_dot(std::span<const Bounded> x, std::span<const float> w, double quantum,
                    float bias) {
  ExactDot dot;
  double error = 0;  // what the bounds of x contribute
  for (size_t i = 0; i < x.size(); ++i) {
    const double weight = w[i], product = x[i].value * weight;
    dot.z += product;
    dot.abs_sum += std::abs(product) + x[i].bound * std::abs(weight);
    error += x[i].bound * std::abs(weight);
  }
  if (error == 0) dot.quantum = quantum;
  Bounded z = biased_dot(dot, static_cast<int64_t>(x.size()), bias);
  z.bound += error;
  return z;
}

// z * factor + bias, rounded once in float32.
Bounded scaled_and_biased(const Bounded& z, double factor, float bias) {
  const double value = z.value * factor + static_cast<double>(bias);
  const double bound = z.bound * factor;
  return {value, bound + (std::abs(value) + bound) * 0x1p-23};
}

}  // namespace

std::vector<Bounded> reference_moe(const MoeArgs& args, int num_threads) {
  const int64_t rows = args.x.rows, hidden = args.gate_up.k, inner = args.down.k;
  const int64_t chosen = args.experts_per_token, experts = args.gate_up.experts;
  const auto slots = static_cast<size_t>(rows * chosen);
  const DType dtype = args.x.dtype;
  std::vector<int32_t> ids(args.expert_ids.begin(), args.expert_ids.end());
  std::vector<float> weights(args.weights.begin(), args.weights.end());
  if (args.logits) {
    ids.resize(slots);
    weights.resize(slots);
    reference_route({.logits = args.logits,
                     .experts_per_token = chosen,
                     .rounding = args.rounding,
                     .expert_ids = ids,
                     .weights = weights,
                     .lists = {}});
  }
  check_expert_ids(args);

  std::vector<float> x(static_cast<size_t>(rows * hidden));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < hidden; ++i)
      x[static_cast<size_t>(row * hidden + i)] = load(args.x, row, i);

  // In e4m3: each row of x by its own factor, all of SwiGLU's outputs by one.
  const bool fp8 = args.activations == Activations::kFp8;
  const double inner_factor = fp8 ? double{e4m3_factor(args.alpha, args.limit)} : 1;
  std::vector<std::vector<Bounded>> x_e4m3;
  std::vector<double> x_factors;
  for (int64_t row = 0; fp8 && row < rows; ++row) {
    const E4m3Row quantized = e4m3_row({x.data() + row * hidden, static_cast<size_t>(hidden)});
    x_factors.push_back(quantized.factor);
    std::vector<Bounded>& values = x_e4m3.emplace_back();
    for (const float value : quantized.values) values.push_back({double{value}, 0});
  }

  std::vector<double> quanta(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row)
    quanta[static_cast<size_t>(row)] =
        quantum_of({x.data() + row * hidden, static_cast<size_t>(hidden)});

  ThreadPool pool(num_threads);
  std::vector<Bounded> activated, y(slots * static_cast<size_t>(hidden));
  for (int64_t e = 0; e < experts; ++e) {
    std::vector<size_t> mine;
    for (size_t slot = 0; slot < slots; ++slot)
      if (int64_t{ids[slot]} == args.first_expert + e) mine.push_back(slot);
    if (mine.empty()) continue;
    activated.resize(mine.size() * static_cast<size_t>(inner));
    const auto bias_of = [&](const float* bias, int64_t n, int64_t f) {
      return bias == nullptr ? 0.0f : bias[e * n + f];
    };
    pool.parallel_for(static_cast<int>(inner), [&](int j, int) {
      std::vector<float> gate(static_cast<size_t>(hidden)), up(gate.size());
      const int64_t f = 2 * int64_t{j};
      decode_weight_row(args.gate_up, args.layout, e, f, dtype, gate.data());
      decode_weight_row(args.gate_up, args.layout, e, f + 1, dtype, up.data());
      const double gate_quantum = quantum_of(gate), up_quantum = quantum_of(up);
      for (size_t i = 0; i < mine.size(); ++i) {
        const int64_t row = static_cast<int64_t>(mine[i]) / chosen;
        const auto product = [&](const std::vector<float>& weight, double quantum,
                                 int64_t feature) {
          const float bias = bias_of(args.gate_up_bias, 2 * inner, feature);
          if (fp8)
            return scaled_and_biased(e4m3_dot(x_e4m3[static_cast<size_t>(row)], weight),
                                     x_factors[static_cast<size_t>(row)], bias);
          ExactDot dot = exact_dot(x.data() + row * hidden, weight.data(), hidden);
          dot.quantum = quantum * quanta[static_cast<size_t>(row)];
          return biased_dot(dot, hidden, bias);
        };
        Bounded value = swiglu(product(gate, gate_quantum, f), product(up, up_quantum, f + 1),
                               args.alpha, args.limit);
        if (fp8)
          value = rounded_to_e4m3({value.value * inner_factor, value.bound * inner_factor});
        else
          value = rounded(dtype, value);
        activated[i * static_cast<size_t>(inner) + static_cast<size_t>(j)] = value;
      }
    });
    std::vector<double> activated_quanta(mine.size());
    for (size_t i = 0; i < mine.size(); ++i) {
      std::vector<float> values(static_cast<size_t>(inner));
      for (size_t j = 0; j < values.size(); ++j)
        values[j] = static_cast<float>(activated[i * values.size() + j].value);
      activated_quanta[i] = quantum_of(values);
    }
    pool.parallel_for(static_cast<int>(hidden), [&](int f, int) {
      std::vector<float> down(static_cast<size_t>(inner));
      decode_weight_row(args.down, args.layout, e, f, dtype, down.data());
      const double quantum = quantum_of(down);
      for (size_t i = 0; i < mine.size(); ++i) {
        const std::span row = std::span(activated).subspan(i * static_cast<size_t>(inner),
                                                           static_cast<size_t>(inner));
        const float bias = bias_of(args.down_bias, hidden, f);
        const Bounded z = fp8 ? scaled_and_biased(e4m3_dot(row, down), 1 / inner_factor, bias)
                              : bounded_dot(row, down, quantum * activated_quanta[i], bias);
        y[mine[i] * static_cast<size_t>(hidden) + static_cast<size_t>(f)] =
            rounded(dtype, times(z, weights[mine[i]]));
      }
    });
  }

  std::vector<Bounded> out(static_cast<size_t>(rows * hidden));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t f = 0; f < hidden; ++f) {
      // The order of the float32 sum is the contract's, so without bounds it has no error.
      float sum = 0;
      double error = 0, magnitude = 0;
      for (int64_t i = 0; i < chosen; ++i) {
        const auto slot = static_cast<size_t>(row * chosen + i);
        if (ids[slot] < args.first_expert || ids[slot] >= args.first_expert + experts) continue;
        const Bounded& term = y[slot * static_cast<size_t>(hidden) + static_cast<size_t>(f)];
        sum += static_cast<float>(term.value);
        error += term.bound;
        magnitude += std::abs(term.value) + term.bound;
      }
      if (error > 0) error += static_cast<double>(chosen) * 0x1p-23 * magnitude;
      Bounded result = rounded(args.out.dtype, {static_cast<double>(sum), error});
      if (args.residual) {
        result.value += static_cast<double>(load(args.residual, row, f));
        result = rounded(args.out.dtype, result);
      }
      out[static_cast<size_t>(row * hidden + f)] = result;
    }
  return out;
}

}  // namespace moxie
