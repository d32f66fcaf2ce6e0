#include "ops/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/thread_pool.h"
#include "ops/attention.h"
#include "ops/embed.h"
#include "ops/linear.h"
#include "ops/moe.h"
#include "ops/reference/bounded.h"
#include "ops/reference/route.h"
#include "ops/reference/weights.h"
#include "ops/rms_norm.h"

namespace moxie {
namespace {

constexpr int64_t kTileRows = 32;      // activations that share one decoded weight row in cache
constexpr int64_t kTileFeatures = 16;  // weight rows of one task

float load(const ConstRows& x, int64_t row, int64_t col) {
  const int64_t at = row * x.stride + col;
  return x.dtype == DType::kBF16 ? to_float(static_cast<const bf16*>(x.data)[at])
                                 : static_cast<const float*>(x.data)[at];
}

// REQUIRES: value has out's dtype already, unless that is float32.
void store(const Rows& out, int64_t row, int64_t col, float value) {
  const int64_t at = row * out.stride + col;
  if (out.dtype == DType::kBF16)
    static_cast<bf16*>(out.data)[at] = to_bf16(value);
  else
    static_cast<float*>(out.data)[at] = value;
}

void widen_row(const ConstRows& x, int64_t row, float* out) {
  for (int64_t i = 0; i < x.cols; ++i) out[i] = load(x, row, i);
}

void widen(const bf16* from, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = to_float(from[i]);
}

// Eight partial sums in float64, so that compilers may use vectors without changing any bit.
double dot(const float* a, const float* b, int64_t count) {
  constexpr int kLanes = 8;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
  }
  for (; i < count; ++i) lanes[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
         ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
T* grown(std::vector<T>& buffer, int64_t count) {
  if (static_cast<int64_t>(buffer.size()) < count) buffer.resize(static_cast<size_t>(count));
  return buffer.data();
}

class ReferenceBackend final : public Backend {
 public:
  ReferenceBackend(DType dtype, int num_threads)
      : dtype_(dtype), pool_(num_threads), workers_(static_cast<size_t>(num_threads)) {
    MOXIE_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, kInvalidArgument,
                "the reference computes in F32 or BF16, not in ", name(dtype));
  }

  std::string description() const override {
    return concat("reference ", dtype_ == DType::kF32 ? "fp32" : "bf16", " (sums in float64), ",
                  pool_.num_threads(), pool_.num_threads() == 1 ? " thread" : " threads");
  }
  DType activation_dtype() const override { return dtype_; }

  int64_t reserve(const BackendLimits& limits) override {
    const int64_t q_width = limits.num_q_heads * limits.head_dim;
    const int64_t widest = std::max({limits.hidden_size, limits.intermediate_size, q_width});
    const int64_t routed = limits.max_rows * limits.experts_per_token;
    grown(x_, limits.max_rows * std::max(limits.hidden_size, q_width));
    grown(inner_, routed * limits.intermediate_size);
    grown(expert_out_, routed * limits.hidden_size);
    grown(slots_, routed);
    grown(offsets_, limits.num_experts + 1);
    int64_t bytes = held(x_) + held(inner_) + held(expert_out_) + held(slots_) + held(offsets_);
    for (Worker& worker : workers_) {
      grown(worker.weights, 2 * widest * kTileFeatures);
      grown(worker.scores, limits.max_context);
      grown(worker.sums, limits.head_dim);
      bytes += held(worker.weights) + held(worker.scores) + held(worker.sums);
    }
    return bytes;
  }

  void embed(const EmbedArgs& args) override;
  void rms_norm(const RmsNormArgs& args) override;
  void linear(const LinearArgs& args) override;
  void rope(const RopeArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void route(const RouteArgs& args) override;
  void moe(const MoeArgs& args) override;

 private:
  struct Worker {
    std::vector<float> weights;
    std::vector<double> scores, sums;
  };

  template <class T>
  static int64_t held(const std::vector<T>& buffer) {
    return static_cast<int64_t>(buffer.capacity() * sizeof(T));
  }

  template <class T>
  void attend(const AttentionArgs& args, const SequenceRows& sequence, int64_t row, int64_t head,
              Worker& worker);
  MoeArgs routed(const MoeArgs& args);

  DType dtype_;
  ThreadPool pool_;
  std::vector<Worker> workers_;
  std::vector<float> x_, inner_, expert_out_;
  std::vector<int32_t> slots_;  // indices into expert_ids, sorted by expert
  std::vector<int64_t> offsets_;
  std::vector<int32_t> ids_;  // made from logits, with their weights
  std::vector<float> weights_;
};

void ReferenceBackend::embed(const EmbedArgs& args) {
  for (int64_t row = 0; row < args.out.rows; ++row) {
    const bf16* from = args.table.data + args.tokens[static_cast<size_t>(row)] * args.table.k;
    for (int64_t i = 0; i < args.table.k; ++i) store(args.out, row, i, to_float(from[i]));
  }
}

void ReferenceBackend::rms_norm(const RmsNormArgs& args) {
  const ConstRows& x = args.x;
  pool_.parallel_for(static_cast<int>(x.rows), [&](int row, int) {
    double squares = 0;
    for (int64_t i = 0; i < x.cols; ++i) {
      const double value = load(x, row, i);
      squares += value * value;
    }
    const double factor =
        1 / std::sqrt(squares / static_cast<double>(x.cols) + static_cast<double>(args.epsilon));
    for (int64_t i = 0; i < x.cols; ++i) {
      const double value = load(x, row, i) * factor * static_cast<double>(args.scale[i]);
      store(args.out, row, i, round_to(args.out.dtype, value));
    }
  });
}

void ReferenceBackend::linear(const LinearArgs& args) {
  const int64_t rows = args.x.rows, n = args.weight.n, k = args.weight.k;
  float* x = grown(x_, rows * k);
  pool_.parallel_for(static_cast<int>(rows),
                     [&](int row, int) { widen_row(args.x, row, x + row * k); });
  pool_.parallel_for(static_cast<int>(ceil_div(n, kTileFeatures)), [&](int task, int worker) {
    const int64_t begin = task * kTileFeatures, end = std::min(n, begin + kTileFeatures);
    float* weights = grown(workers_[static_cast<size_t>(worker)].weights, k * kTileFeatures);
    widen(args.weight.data + begin * k, (end - begin) * k, weights);
    for (int64_t first = 0; first < rows; first += kTileRows) {
      for (int64_t feature = begin; feature < end; ++feature) {
        const double bias = args.bias ? args.bias[feature] : 0;
        for (int64_t row = first; row < std::min(rows, first + kTileRows); ++row) {
          const double sum = dot(x + row * k, weights + (feature - begin) * k, k) + bias;
          float result = round_to(args.out.dtype, sum);
          if (args.residual)
            result = round_to(args.out.dtype, load(args.residual, row, feature) + result);
          store(args.out, row, feature, result);
        }
      }
    }
  });
}

void ReferenceBackend::rope(const RopeArgs& args) {
  const int64_t half = args.head_dim / 2;
  const DType dtype = args.qkv.dtype;
  const auto rounded = [dtype](float value) {
    return dtype == DType::kBF16 ? round_to_bf16(value) : value;
  };
  for (const SequenceRows& sequence : args.sequences) {
    pool_.parallel_for(static_cast<int>(sequence.num_rows), [&](int i, int) {
      const int64_t row = sequence.first_row + i;
      for (int64_t head = 0; head < args.num_q_heads + args.num_kv_heads; ++head) {
        for (int64_t d = 0; d < half; ++d) {
          const float cos = rounded(args.cos[row * half + d]);
          const float sin = rounded(args.sin[row * half + d]);
          const int64_t col = head * args.head_dim + d;
          const float a = load(args.qkv, row, col), b = load(args.qkv, row, col + half);
          store(args.qkv, row, col, rounded(rounded(a * cos) - rounded(b * sin)));
          store(args.qkv, row, col + half, rounded(rounded(b * cos) + rounded(a * sin)));
        }
      }
      const int64_t slot = (sequence.start_position + i) % sequence.kv.capacity;
      const size_t bytes = static_cast<size_t>(args.head_dim) * size_bytes(dtype);
      for (int64_t head = 0; head < args.num_kv_heads; ++head) {
        const auto at = static_cast<size_t>(head * sequence.kv.capacity + slot) * bytes;
        const int64_t k_begin = (args.num_q_heads + head) * args.head_dim;
        const int64_t v_begin = k_begin + args.num_kv_heads * args.head_dim;
        const auto row_of = [&](int64_t begin) {
          return static_cast<const char*>(args.qkv.data) +
                 static_cast<size_t>(row * args.qkv.stride + begin) * size_bytes(dtype);
        };
        std::memcpy(static_cast<char*>(sequence.kv.k) + at, row_of(k_begin), bytes);
        std::memcpy(static_cast<char*>(sequence.kv.v) + at, row_of(v_begin), bytes);
      }
    });
  }
}

template <class T>
void ReferenceBackend::attend(const AttentionArgs& args, const SequenceRows& sequence, int64_t row,
                              int64_t head, Worker& worker) {
  const int64_t position = sequence.start_position + row - sequence.first_row;
  const int64_t first = args.window > 0 ? std::max<int64_t>(0, position - args.window + 1) : 0;
  const int64_t count = position - first + 1, dim = args.head_dim;
  const int64_t kv_head = head / (args.num_q_heads / args.num_kv_heads);
  const int64_t capacity = sequence.kv.capacity;
  const T* query = static_cast<const T*>(args.q.data) + row * args.q.stride + head * dim;
  const T* keys = static_cast<const T*>(sequence.kv.k) + kv_head * capacity * dim;
  const T* values = static_cast<const T*>(sequence.kv.v) + kv_head * capacity * dim;
  double* scores = grown(worker.scores, count);
  double* sums = grown(worker.sums, dim);

  const double sink = args.sinks[head];
  double largest = sink;
  for (int64_t j = 0; j < count; ++j) {
    const T* key = keys + (first + j) % capacity * dim;
    double sum = 0;
    for (int64_t d = 0; d < dim; ++d)
      sum += static_cast<double>(to_float(query[d])) * static_cast<double>(to_float(key[d]));
    scores[j] = sum * static_cast<double>(args.sm_scale);
    largest = std::max(largest, scores[j]);
  }
  double total = std::exp(sink - largest);
  std::fill_n(sums, dim, 0.0);
  for (int64_t j = 0; j < count; ++j) {
    const T* value = values + (first + j) % capacity * dim;
    const double weight = std::exp(scores[j] - largest);
    total += weight;
    for (int64_t d = 0; d < dim; ++d) sums[d] += weight * static_cast<double>(to_float(value[d]));
  }
  for (int64_t d = 0; d < dim; ++d)
    store(args.out, row, head * dim + d, round_to(args.out.dtype, sums[d] / total));
}

void ReferenceBackend::attention(const AttentionArgs& args) {
  const int64_t heads = args.num_q_heads;
  for (const SequenceRows& sequence : args.sequences) {
    pool_.parallel_for(static_cast<int>(sequence.num_rows * heads), [&](int task, int worker) {
      const int64_t row = sequence.first_row + task / heads, head = task % heads;
      Worker& mine = workers_[static_cast<size_t>(worker)];
      if (args.q.dtype == DType::kF32)
        attend<float>(args, sequence, row, head, mine);
      else
        attend<bf16>(args, sequence, row, head, mine);
    });
  }
}

void ReferenceBackend::route(const RouteArgs& args) {
  check(args);
  reference_route(args);
}

// args with the choice of experts made, in memory that grows.
MoeArgs ReferenceBackend::routed(const MoeArgs& args) {
  if (!args.logits) return args;
  const auto slots = static_cast<size_t>(args.x.rows * args.experts_per_token);
  const std::span<int32_t> ids(grown(ids_, static_cast<int64_t>(slots)), slots);
  const std::span<float> weights(grown(weights_, static_cast<int64_t>(slots)), slots);
  reference_route({.logits = args.logits,
                   .experts_per_token = args.experts_per_token,
                   .rounding = args.rounding,
                   .expert_ids = ids,
                   .weights = weights,
                   .lists = {}});
  MoeArgs with_choice = args;
  with_choice.logits = {};
  with_choice.expert_ids = ids;
  with_choice.weights = weights;
  return with_choice;
}

void ReferenceBackend::moe(const MoeArgs& unrouted) {
  check(unrouted);
  const MoeArgs args = routed(unrouted);
  check_expert_ids(args);
  check_bf16_activations(args);
  const int64_t rows = args.x.rows, hidden = args.gate_up.k, inner = args.down.k;
  const int64_t chosen = args.experts_per_token, routed = rows * chosen;
  const int64_t experts = args.gate_up.experts;
  const DType dtype = args.x.dtype;
  float* x = grown(x_, rows * hidden);
  float* inner_rows = grown(inner_, routed * inner);
  float* expert_out = grown(expert_out_, routed * hidden);
  pool_.parallel_for(static_cast<int>(rows),
                     [&](int row, int) { widen_row(args.x, row, x + row * hidden); });

  // Slots (row * chosen + i) grouped by expert; foreign ones in no group.
  int32_t* slots = grown(slots_, routed);
  int64_t* offsets = grown(offsets_, experts + 1);
  const auto expert_of = [&](int64_t slot) {
    const int64_t e = args.expert_ids[static_cast<size_t>(slot)] - args.first_expert;
    return e >= 0 && e < experts ? e : int64_t{-1};
  };
  std::fill_n(offsets, experts + 1, 0);
  for (int64_t slot = 0; slot < routed; ++slot)
    if (expert_of(slot) >= 0) ++offsets[expert_of(slot) + 1];
  for (int64_t e = 0; e < experts; ++e) offsets[e + 1] += offsets[e];
  for (int64_t slot = 0; slot < routed; ++slot)
    if (expert_of(slot) >= 0) slots[offsets[expert_of(slot)]++] = static_cast<int32_t>(slot);
  for (int64_t e = experts; e > 0; --e) offsets[e] = offsets[e - 1];
  offsets[0] = 0;

  const int64_t inner_tiles = ceil_div(inner, kTileFeatures);
  pool_.parallel_for(static_cast<int>(experts * inner_tiles), [&](int task, int worker) {
    const int64_t e = task / inner_tiles, begin = task % inner_tiles * kTileFeatures;
    if (offsets[e] == offsets[e + 1]) return;
    float* gate_row = grown(workers_[static_cast<size_t>(worker)].weights, 2 * hidden);
    float* up_row = gate_row + hidden;
    const float* bias = args.gate_up_bias;
    for (int64_t j = begin; j < std::min(inner, begin + kTileFeatures); ++j) {
      decode_weight_row(args.gate_up, args.layout, e, 2 * j, dtype, gate_row);
      decode_weight_row(args.gate_up, args.layout, e, 2 * j + 1, dtype, up_row);
      const double gate_bias = bias == nullptr ? 0.0 : bias[(e * inner + j) * 2];
      const double up_bias = bias == nullptr ? 0.0 : bias[(e * inner + j) * 2 + 1];
      for (int64_t i = offsets[e]; i < offsets[e + 1]; ++i) {
        const float* row = x + slots[i] / chosen * hidden;
        const Bounded gate = {dot(row, gate_row, hidden) + gate_bias, 0};
        const Bounded up = {dot(row, up_row, hidden) + up_bias, 0};
        inner_rows[slots[i] * inner + j] =
            round_to(dtype, swiglu(gate, up, args.alpha, args.limit).value);
      }
    }
  });

  const int64_t hidden_tiles = ceil_div(hidden, kTileFeatures);
  pool_.parallel_for(static_cast<int>(experts * hidden_tiles), [&](int task, int worker) {
    const int64_t e = task / hidden_tiles, begin = task % hidden_tiles * kTileFeatures;
    if (offsets[e] == offsets[e + 1]) return;
    float* weights = grown(workers_[static_cast<size_t>(worker)].weights, inner);
    for (int64_t j = begin; j < std::min(hidden, begin + kTileFeatures); ++j) {
      decode_weight_row(args.down, args.layout, e, j, dtype, weights);
      const double bias = args.down_bias == nullptr ? 0.0 : args.down_bias[e * hidden + j];
      for (int64_t i = offsets[e]; i < offsets[e + 1]; ++i) {
        const double sum = dot(inner_rows + slots[i] * inner, weights, inner) + bias;
        expert_out[slots[i] * hidden + j] =
            round_to(dtype, sum * static_cast<double>(args.weights[static_cast<size_t>(slots[i])]));
      }
    }
  });

  pool_.parallel_for(static_cast<int>(rows), [&](int row, int) {
    for (int64_t j = 0; j < hidden; ++j) {
      float sum = 0;
      for (int64_t i = 0; i < chosen; ++i)
        if (expert_of(row * chosen + i) >= 0) sum += expert_out[(row * chosen + i) * hidden + j];
      float result = round_to(args.out.dtype, sum);
      if (args.residual) result = round_to(args.out.dtype, load(args.residual, row, j) + result);
      store(args.out, row, j, result);
    }
  });
}

}  // namespace

std::unique_ptr<Backend> make_reference_backend(DType activation_dtype, int num_threads) {
  return std::make_unique<ReferenceBackend>(activation_dtype, num_threads);
}

}  // namespace moxie
