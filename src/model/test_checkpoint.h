// For tests: checkpoint folders made from weights in memory, whole or with something wrong.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "model/weights.h"

namespace moxie::test {

// An empty folder that goes away with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "moxie_test_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct NamedTensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

inline NamedTensor matrix_tensor(std::string name, const Bf16Matrix& m) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(m.data);
  return {std::move(name), DType::kBF16, {m.n, m.k}, {bytes, bytes + m.n * m.k * 2}};
}

inline NamedTensor vector_tensor(std::string name, const std::vector<float>& values,
                                 std::vector<int64_t> shape) {
  NamedTensor tensor{std::move(name), DType::kBF16, std::move(shape), {}};
  for (const float value : values) {
    const bf16 rounded = to_bf16(value);
    tensor.bytes.push_back(static_cast<uint8_t>(rounded.bits));
    tensor.bytes.push_back(static_cast<uint8_t>(rounded.bits >> 8));
  }
  return tensor;
}

// The tensors of a checkpoint with these weights (biases rounded to bf16), in either layout: the
// table of gpt-oss.md 3.1.
inline std::vector<NamedTensor> tensors_of(const GptOssWeights& weights, CheckpointLayout layout) {
  const bool hf = layout == CheckpointLayout::kHuggingFace;
  const GptOssConfig& config = weights.config;
  const int64_t hidden = config.hidden_size;
  const int64_t experts = config.num_experts;
  std::vector<NamedTensor> out;
  const auto dense = [&](const std::string& name, const Bf16Matrix& weight,
                         const std::vector<float>& bias) {
    out.push_back(matrix_tensor(name + ".weight", weight));
    out.push_back(vector_tensor(name + ".bias", bias, {weight.n}));
  };
  const auto expert = [&](const std::string& name, const char* dot_weight, const Mxfp4Matrices& m,
                          const std::vector<float>& bias) {
    const int64_t blocks = m.experts * m.n * (m.k / 32);
    out.push_back({name + dot_weight + "blocks",
                   DType::kU8,
                   {experts, m.n, m.k / 32, 16},
                   {m.codes, m.codes + blocks * 16}});
    out.push_back({name + dot_weight + "scales",
                   DType::kU8,
                   {experts, m.n, m.k / 32},
                   {m.scales, m.scales + blocks}});
    out.push_back(vector_tensor(name + "bias", bias, {experts, m.n}));
  };
  out.push_back(
      matrix_tensor(hf ? "model.embed_tokens.weight" : "embedding.weight", weights.embedding));
  for (size_t n = 0; n < weights.layers.size(); ++n) {
    const LayerWeights& layer = weights.layers[n];
    const std::string prefix = (hf ? "model.layers." : "block.") + std::to_string(n) + ".";
    out.push_back(vector_tensor(prefix + (hf ? "input_layernorm.weight" : "attn.norm.scale"),
                                layer.attention_norm, {hidden}));
    if (hf) {
      dense(prefix + "self_attn.q_proj", layer.q, layer.q_bias);
      dense(prefix + "self_attn.k_proj", layer.k, layer.k_bias);
      dense(prefix + "self_attn.v_proj", layer.v, layer.v_bias);
    } else {
      NamedTensor weight = matrix_tensor(prefix + "attn.qkv.weight", layer.q);
      std::vector<float> bias = layer.q_bias;
      for (const auto& [part, part_bias] :
           {std::pair(&layer.k, &layer.k_bias), std::pair(&layer.v, &layer.v_bias)}) {
        const NamedTensor more = matrix_tensor("", *part);
        weight.bytes.insert(weight.bytes.end(), more.bytes.begin(), more.bytes.end());
        weight.shape[0] += part->n;
        bias.insert(bias.end(), part_bias->begin(), part_bias->end());
      }
      out.push_back(vector_tensor(prefix + "attn.qkv.bias", bias, {weight.shape[0]}));
      out.push_back(std::move(weight));
    }
    out.push_back(vector_tensor(prefix + (hf ? "self_attn.sinks" : "attn.sinks"), layer.sinks,
                                {config.num_q_heads}));
    dense(prefix + (hf ? "self_attn.o_proj" : "attn.out"), layer.o, layer.o_bias);
    out.push_back(
        vector_tensor(prefix + (hf ? "post_attention_layernorm.weight" : "mlp.norm.scale"),
                      layer.mlp_norm, {hidden}));
    dense(prefix + (hf ? "mlp.router" : "mlp.gate"), layer.router, layer.router_bias);
    expert(prefix + (hf ? "mlp.experts.gate_up_proj_" : "mlp.mlp1_"), hf ? "" : "weight.",
           layer.gate_up, layer.gate_up_bias);
    expert(prefix + (hf ? "mlp.experts.down_proj_" : "mlp.mlp2_"), hf ? "" : "weight.", layer.down,
           layer.down_bias);
  }
  out.push_back(
      vector_tensor(hf ? "model.norm.weight" : "norm.scale", weights.final_norm, {hidden}));
  if (!config.tie_word_embeddings)
    out.push_back(matrix_tensor(hf ? "lm_head.weight" : "unembedding.weight", weights.unembedding));
  return out;
}

// model.safetensors and config.json.
inline void write_checkpoint(const std::filesystem::path& folder, const GptOssConfig& config,
                             CheckpointLayout layout, const std::vector<NamedTensor>& tensors) {
  std::vector<SafetensorsWriter::Entry> entries;
  for (const NamedTensor& tensor : tensors)
    entries.push_back({tensor.name, tensor.dtype, tensor.shape});
  SafetensorsWriter writer(folder / "model.safetensors", entries, {});
  for (const NamedTensor& tensor : tensors) writer.write(tensor.bytes);
  writer.finish();
  std::ofstream(folder / "config.json") << write_config(config, layout);
}

}  // namespace moxie::test
