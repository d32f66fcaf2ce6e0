// A model folder: config.json, the tensors of all its safetensors files under one roof,
// generation_config.json.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace moxie {

// The tensors of a folder. Shards are found through model.safetensors.index.json where there is
// one, otherwise by reading the header of every *.safetensors file in the folder.
//
// Refused with a sentence: no such folder, a folder without safetensors, an index that names a
// missing file, a path with '/' or '..', or a tensor its shard does not have; a tensor in two
// shards; a link to anything but a regular file. Links inside the folder must lead into the folder
// itself or into the `blobs` of the same Hugging Face cache.
class TensorFolder {
 public:
  explicit TensorFolder(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const TensorView* find(std::string_view name) const;
  // The tensor, of one of these dtypes and exactly this shape. Throws Error(kInvalidArgument)
  // naming file, tensor, expected and found.
  const TensorView& require(std::string_view name, std::initializer_list<DType> dtypes,
                            std::span<const int64_t> shape) const;
  const std::map<std::string, const TensorView*, std::less<>>& tensors() const { return tensors_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }
  uint64_t total_bytes() const;

 private:
  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, const TensorView*, std::less<>> tensors_;
};

enum class CheckpointLayout : uint8_t { kHuggingFace, kOriginal };

enum class RopeScaling : uint8_t { kNone, kYarn };

// The architecture as config.json describes it, in Hugging Face's or the original's spelling, old
// or new. JSON null counts as absent. Every value is range-checked: see docs in the .cc.
struct GptOssConfig {
  CheckpointLayout layout = CheckpointLayout::kHuggingFace;  // which spelling the file had
  int64_t num_layers = 0, num_experts = 0, experts_per_token = 0;
  int64_t hidden_size = 0, intermediate_size = 0, vocab_size = 0;
  int64_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t sliding_window = 0;
  std::vector<bool> layer_is_sliding;  // [num_layers]
  int64_t max_position = 0;
  double rope_theta = 150000;
  RopeScaling rope_scaling = RopeScaling::kYarn;
  double yarn_factor = 32, yarn_beta_fast = 32, yarn_beta_slow = 1;
  int64_t yarn_original_context = 4096;
  bool yarn_truncate = false;
  std::optional<double> yarn_attention_factor;  // absent: 0.1 ln(factor) + 1
  double rms_norm_eps = 1e-5;
  double swiglu_alpha = 1.702, swiglu_limit = 7.0;
  bool tie_word_embeddings = false;
  bool quantized = true;  // experts are MXFP4: quantization_config says so, or the original layout
  std::optional<int64_t> eos_token_id, pad_token_id;
};

// Throws Error(kInvalidArgument) naming `source`, the key, what was expected and what was found;
// Error(kUnsupported) for another architecture.
GptOssConfig parse_config(std::string_view json_text, std::string_view source);
GptOssConfig read_config(const std::filesystem::path& folder);
// config.json in Hugging Face's (old spelling) or the original's form.
std::string write_config(const GptOssConfig& config, CheckpointLayout layout);

// generation_config.json; absent file or keys leave the fields empty.
struct GenerationConfig {
  std::vector<int32_t> eos_token_ids;
  std::optional<double> temperature, top_p, min_p;
  std::optional<int64_t> top_k;
};
GenerationConfig read_generation_config(const std::filesystem::path& folder);

// Resolves what a user may type for MODEL: a folder, or "owner/name" in the Hugging Face cache (the
// snapshot that refs/main names, else the only one). Throws Error(kInvalidArgument) that says where
// it looked and what to do.
std::filesystem::path resolve_model(std::string_view model);

}  // namespace moxie
