// Checkpoints from one form to another, one tensor at a time; and random ones.
//
// Each writes a new folder `out` completely or not at all: everything goes to a hidden sibling
// folder first, which takes the name `out` at the end by rename. `out` must not exist (or be an
// empty folder). Free space is checked first. Error(kIo) names needed and free bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "mxfp4/block.h"

namespace moxie {

struct Progress {
  std::function<void(uint64_t done_bytes, uint64_t total_bytes, std::string_view what)>
      report;                       // may be empty
  std::function<bool()> cancelled;  // may be empty
};

// Thrown when Progress::cancelled says so; nothing is left behind.
enum class TargetLayout : uint8_t { kHuggingFace, kOriginal, kBf16 };
std::optional<TargetLayout> parse_layout(std::string_view name);  // "hf", "original", "bf16"

// kBf16: transformers' dequantised names and axes: gate_up_proj [E, H, 2I], down_proj [E, I, H].
void convert_checkpoint(const std::filesystem::path& in, const std::filesystem::path& out,
                        TargetLayout layout, const Progress& progress);

// From transformers' bf16 form to MXFP4 in Hugging Face's layout.
void quantize_checkpoint(const std::filesystem::path& in, const std::filesystem::path& out,
                         mxfp4::ScaleRule rule, const Progress& progress);

// Random weights in the shapes of `config`, in Hugging Face's layout, with a tokenizer (a copy of
// `tokenizer`, or a byte-level one with the special tokens in the last places of the published ids
// where the vocabulary allows).
void synthesize_checkpoint(const GptOssConfig& config, const std::filesystem::path& out,
                           const std::optional<std::filesystem::path>& tokenizer, uint64_t seed,
                           const Progress& progress);

}  // namespace moxie
