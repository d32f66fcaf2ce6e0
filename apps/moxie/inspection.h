// What `moxie inspect` finds out about a model folder; says nothing itself.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace moxie::cli {

// Tensors that differ only in their layer.
struct TensorGroup {
  std::string pattern;  // "model.layers.*.self_attn.q_proj.weight"
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t count = 0;
  uint64_t bytes = 0;
};

// What a tensor is there for, in both layouts; "other" for unknown names.
std::string_view kind_of(std::string_view tensor_name);

struct ParameterCount {
  int64_t total = 0;   // a scale is no parameter, a code is one
  int64_t active = 0;  // used for a token: all but the embedding table, and the chosen experts
};

struct MemoryPlan {
  int64_t context = 0;
  uint64_t weights_bytes = 0;    // mapped
  uint64_t cache_bytes = 0;      // for `context` positions
  uint64_t workspace_bytes = 0;  // of the model's forward pass
  std::string backend;
  uint64_t total_bytes() const { return weights_bytes + cache_bytes + workspace_bytes; }
};

enum class FolderForm : uint8_t { kPacked, kOriginal, kDequantized };
const char* name(FolderForm form);  // "hf", "original", "bf16", as `moxie convert --layout`

struct Inspection {
  std::filesystem::path folder;
  GptOssConfig config;
  FolderForm form = FolderForm::kPacked;
  std::vector<TensorGroup> groups;
  std::map<std::string_view, uint64_t> bytes_by_kind;
  int64_t num_tensors = 0;
  int64_t num_files = 0;
  uint64_t tensor_bytes = 0;
  ParameterCount parameters;
  std::optional<MemoryPlan> memory;    // absent when the checkpoint cannot be run as it is
  std::string unusable;                // then: why
  std::array<uint64_t, 256> scales{};  // how often each E8M0 byte occurs
};

// Reports bytes read of bytes to read; throws to stop.
using ReadProgress = std::function<void(uint64_t done, uint64_t total, std::string_view tensor)>;

enum class ReadScales : uint8_t { kNo, kYes };

// context: 0 for all positions the model has. ReadScales::kYes reads 4 % of a model's bytes.
// Throws Error when the folder, its config.json or its files cannot be read.
Inspection inspect_folder(const std::filesystem::path& folder, const TensorFolder& tensors,
                          int64_t context, int num_threads, ReadScales scales,
                          const ReadProgress& progress);

// "model.layers.*.mlp.router.bias" of "model.layers.7.mlp.router.bias".
std::string layer_pattern(std::string_view tensor_name);

}  // namespace moxie::cli
