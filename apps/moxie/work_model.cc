#include "work_model.h"

#include <algorithm>

namespace moxie::cli {
namespace {

double visible_keys(const GptOssConfig& config, int64_t layer, int64_t position) {
  const int64_t keys = position + 1;
  return static_cast<double>(config.layer_is_sliding[static_cast<size_t>(layer)]
                                 ? std::min(keys, config.sliding_window)
                                 : keys);
}

struct LayerSizes {
  double attention, router, expert;  // weights, in elements
  double q_width, kv_width;
};

LayerSizes sizes_of(const GptOssConfig& config) {
  const double hidden = static_cast<double>(config.hidden_size);
  const double inner = static_cast<double>(config.intermediate_size);
  const double q = static_cast<double>(config.num_q_heads * config.head_dim);
  const double kv = static_cast<double>(config.num_kv_heads * config.head_dim);
  return {(q + 2 * kv) * hidden + hidden * q, static_cast<double>(config.num_experts) * hidden,
          3 * hidden * inner, q, kv};
}

}  // namespace

double prefill_flops(const GptOssConfig& config, int64_t tokens) {
  const LayerSizes sizes = sizes_of(config);
  const double hidden = static_cast<double>(config.hidden_size);
  const double layer =
      sizes.attention + sizes.router + static_cast<double>(config.experts_per_token) * sizes.expert;
  const double keys_and_values = 2 * sizes.kv_width * hidden;
  const double layers_before = static_cast<double>(config.num_layers - 1);
  const double unembedding = static_cast<double>(config.vocab_size) * hidden;
  return 2 * (static_cast<double>(tokens) * layers_before * layer +
              static_cast<double>(tokens - 1) * keys_and_values + layer + unembedding);
}

double attention_flops(const GptOssConfig& config, int64_t start, int64_t tokens) {
  double keys = 0;
  for (int64_t layer = 0; layer + 1 < config.num_layers; ++layer) {
    for (int64_t i = 0; i < tokens; ++i) keys += visible_keys(config, layer, start + i);
  }
  keys += visible_keys(config, config.num_layers - 1, start + tokens - 1);
  return 4 * static_cast<double>(config.head_dim * config.num_q_heads) * keys;
}

double decode_weight_bytes(const GptOssConfig& config, int64_t batch, double experts_per_layer) {
  constexpr double kBf16 = 2;
  constexpr double kMxfp4 = 17.0 / 32;  // 16 bytes of codes and a scale for 32 elements
  const LayerSizes sizes = sizes_of(config);
  const double hidden = static_cast<double>(config.hidden_size);
  const double inner = static_cast<double>(config.intermediate_size);
  const double vocab = static_cast<double>(config.vocab_size);
  const double attention_vectors = sizes.q_width + 2 * sizes.kv_width + hidden +
                                   static_cast<double>(config.num_q_heads);  // biases, sinks
  const double norms = 2 * hidden;
  const double router = sizes.router + static_cast<double>(config.num_experts);
  const double expert = sizes.expert * kMxfp4 + (2 * inner + hidden) * kBf16;
  const double layer =
      (sizes.attention + attention_vectors + norms + router) * kBf16 + experts_per_layer * expert;
  const double ends = (hidden + vocab * hidden + static_cast<double>(batch) * hidden) * kBf16;
  return static_cast<double>(config.num_layers) * layer + ends;
}

double decode_kv_bytes(const GptOssConfig& config, int64_t position) {
  double keys = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    keys += visible_keys(config, layer, position);
  return keys * 2 * static_cast<double>(config.num_kv_heads * config.head_dim) * 2;
}

}  // namespace moxie::cli
