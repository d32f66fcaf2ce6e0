// The tensors of a gpt-oss checkpoint as typed views, validated against its configuration.
#pragma once

#include <memory>
#include <vector>

#include "base/memory.h"
#include "checkpoint/checkpoint.h"
#include "ops/tensor.h"

namespace moxie {

struct LayerWeights {
  std::vector<float> attention_norm, mlp_norm;  // [hidden]
  Bf16Matrix q, k, v, o;  // q [q_heads * head_dim, hidden] ..., o [hidden, q_heads * head_dim]
  std::vector<float> q_bias, k_bias, v_bias, o_bias;
  std::vector<float> sinks;  // [q_heads]
  Bf16Matrix router;         // [experts, hidden]
  std::vector<float> router_bias;
  Mxfp4Matrices gate_up, down;  // [experts, 2 * inner, hidden], [experts, hidden, inner]
  std::vector<float> gate_up_bias, down_bias;
};

// Matrices stay where they are (mapped file, or the buffer of random weights); small vectors are
// widened to float32.
struct GptOssWeights {
  GptOssConfig config;
  Bf16Matrix embedding, unembedding;  // [vocab, hidden]
  std::vector<float> final_norm;
  std::vector<LayerWeights> layers;

  // Owners of what the views point to.
  std::shared_ptr<const TensorFolder> folder;
  std::shared_ptr<const PageBuffer> buffer;
};

// Both layouts. Every tensor is checked for presence, dtype and shape before this returns; Error
// names file, tensor, expected and found. Reads only the small vectors.
GptOssWeights load_weights(const std::filesystem::path& folder);

// Random weights in memory for benchmarks without a checkpoint: unit-size embeddings and small
// experts, so that routing stays close to uniform.
GptOssWeights random_weights(const GptOssConfig& config, uint64_t seed, int num_threads);

// The published shapes ("20b", "120b"), and "tiny" for tests. Throws Error(kInvalidArgument)
// listing the names.
GptOssConfig preset_config(std::string_view name);

}  // namespace moxie
