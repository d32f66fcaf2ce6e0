#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "base/check.h"
#include "base/thread_pool.h"
#include "model/weights.h"
#include "ops/reference/random.h"

namespace moxie {
namespace {

constexpr int64_t kChunk = int64_t{1} << 20;  // bytes of one task
constexpr int64_t kTable = 4096;

// Consecutive pieces of one buffer, each 64-byte aligned. Without a buffer it only counts.
class Arena {
 public:
  explicit Arena(uint8_t* base) : base_(base) {}

  uint8_t* take(int64_t bytes) {
    uint8_t* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (bytes + 63) / 64 * 64;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  uint8_t* base_;
  int64_t used_ = 0;
};

// Fills tensors in the order of creation; the bytes depend on the seed and that order alone.
class Generator {
 public:
  Generator(uint64_t seed, ThreadPool* pool, uint8_t* base)
      : seed_(seed), pool_(pool), arena_(base) {}

  int64_t used() const { return arena_.used(); }

  Bf16Matrix matrix(int64_t n, int64_t k, float deviation) {
    auto* out = reinterpret_cast<bf16*>(arena_.take(n * k * 2));
    const uint64_t seed = next_seed();
    if (out != nullptr) {
      // Drawing from a table of 4096 normal numbers costs one hash for four elements.
      bf16 table[kTable];
      fill_normal(std::span(table), seed, deviation);
      for_chunks(n * k * 2, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin / 2; i < end / 2; i += 4) {
          const uint64_t bits = random_bits(seed, static_cast<uint64_t>(i));
          for (int64_t j = 0; j < std::min<int64_t>(4, end / 2 - i); ++j)
            out[i + j] = table[(bits >> (16 * j)) % kTable];
        }
      });
    }
    return {out, n, k};
  }

  // Codes are uniform; scales make a row's deviation about size / sqrt(k).
  Mxfp4Matrices experts(int64_t experts, int64_t n, int64_t k, float size) {
    uint8_t* codes = arena_.take(experts * n * (k / 2));
    uint8_t* scales = arena_.take(experts * n * (k / 32));
    const uint64_t seed = next_seed();
    if (codes != nullptr) {
      for_chunks(experts * n * (k / 2), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += 8) {
          const uint64_t bits = random_bits(seed, static_cast<uint64_t>(i));
          std::memcpy(codes + i, &bits, static_cast<size_t>(std::min<int64_t>(8, end - i)));
        }
      });
      // The root mean square of E2M1's values is 2.93; bytes spread over three powers of two, as
      // published checkpoints' do.
      const double unit = static_cast<double>(size) / (2.93 * std::sqrt(static_cast<double>(k)));
      const int middle = 127 + static_cast<int>(std::lround(std::log2(unit)));
      for_chunks(experts * n * (k / 32), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const uint64_t bits = random_bits(seed + 1, static_cast<uint64_t>(i));
          const int step = static_cast<int>(bits & 1u) - static_cast<int>((bits >> 1) & 1u);
          scales[i] = static_cast<uint8_t>(middle + step);
        }
      });
    }
    return {codes, scales, experts, n, k};
  }

  std::vector<float> vector(int64_t count, float deviation, float mean = 0) {
    std::vector<float> values(static_cast<size_t>(count));
    fill_normal(std::span(values), next_seed(), deviation, mean);
    for (float& value : values) value = round_to_bf16(value);  // as a checkpoint would hold it
    return values;
  }

 private:
  uint64_t next_seed() { return random_bits(seed_, tensors_++); }

  void for_chunks(int64_t bytes, const std::function<void(int64_t, int64_t)>& fill) {
    pool_->parallel_for(static_cast<int>((bytes + kChunk - 1) / kChunk), [&](int task, int) {
      fill(task * kChunk, std::min(bytes, (task + 1) * kChunk));
    });
  }

  uint64_t seed_;
  uint64_t tensors_ = 0;
  ThreadPool* pool_;
  Arena arena_;
};

// The same walk counts bytes first (without a buffer) and fills afterwards.
void make_weights(Generator& generator, GptOssWeights& weights) {
  const GptOssConfig& config = weights.config;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t q_width = config.num_q_heads * config.head_dim;
  const int64_t kv_width = config.num_kv_heads * config.head_dim;
  const int64_t experts = config.num_experts;
  const auto unit = [](int64_t k) { return 1 / std::sqrt(static_cast<float>(k)); };

  // Embeddings of size 1 and experts that add little: what the router sees stays as varied as the
  // tokens are.
  weights.embedding = generator.matrix(config.vocab_size, hidden, 1);
  weights.layers.clear();
  for (int64_t n = 0; n < config.num_layers; ++n) {
    LayerWeights layer;
    layer.attention_norm = generator.vector(hidden, 0.1f, 1);
    layer.q = generator.matrix(q_width, hidden, unit(hidden));
    layer.k = generator.matrix(kv_width, hidden, unit(hidden));
    layer.v = generator.matrix(kv_width, hidden, unit(hidden));
    layer.q_bias = generator.vector(q_width, 0.1f);
    layer.k_bias = generator.vector(kv_width, 0.1f);
    layer.v_bias = generator.vector(kv_width, 0.1f);
    layer.sinks = generator.vector(config.num_q_heads, 1);
    layer.o = generator.matrix(hidden, q_width, 0.5f * unit(q_width));
    layer.o_bias = generator.vector(hidden, 0.02f);
    layer.mlp_norm = generator.vector(hidden, 0.1f, 1);
    layer.router = generator.matrix(experts, hidden, unit(hidden));
    layer.router_bias = generator.vector(experts, 0.02f);
    layer.gate_up = generator.experts(experts, 2 * inner, hidden, 0.5f);
    layer.down = generator.experts(experts, hidden, inner, 0.5f);
    layer.gate_up_bias = generator.vector(experts * 2 * inner, 0.02f);
    layer.down_bias = generator.vector(experts * hidden, 0.02f);
    weights.layers.push_back(std::move(layer));
  }
  weights.final_norm = generator.vector(hidden, 0.1f, 1);
  weights.unembedding = config.tie_word_embeddings
                            ? weights.embedding
                            : generator.matrix(config.vocab_size, hidden, 2 * unit(hidden));
}

}  // namespace

GptOssWeights random_weights(const GptOssConfig& config, uint64_t seed, int num_threads) {
  GptOssWeights weights;
  weights.config = config;
  ThreadPool pool(num_threads);
  Generator counter(seed, &pool, nullptr);
  make_weights(counter, weights);
  auto buffer = std::make_shared<const PageBuffer>(static_cast<size_t>(counter.used()));
  Generator generator(seed, &pool, buffer->data());
  make_weights(generator, weights);
  weights.buffer = std::move(buffer);
  return weights;
}

}  // namespace moxie
