// Checkpoints from one form to another, one tensor at a time; and random ones.
//
// Each function writes a new folder `out` completely or not at all: everything goes to a hidden
// sibling folder first, which takes the name `out` at the end by rename. `out` must not exist (or
// be an empty folder), must not lie in `in`, and `in` is only read. Free space is checked first.
//
// Memory: pieces of at most some ten MiB and, while quantising, the scales of one matrix of all
// experts (66 MB for gpt-oss-120b); mapped pages of `in` are given back as they are used.
//
// Throws Error(kInvalidArgument) for a checkpoint that lacks tensors or has wrong ones, naming
// tensor, expected and found; Error(kUnsupported) for what a layout cannot hold; Error(kIo) for the
// file system, where space is short with needed and free bytes; Cancelled.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "mxfp4/block.h"

namespace moxie {

struct Progress {
  std::function<void(uint64_t done_bytes, uint64_t total_bytes, std::string_view what)>
      report;                       // may be empty; bytes written
  std::function<bool()> cancelled;  // may be empty; asked every few MiB
};

// Thrown when Progress::cancelled says so; nothing is left behind.
struct Cancelled {};

// kBf16: transformers' dequantised names and axes: gate_up_proj [E, H, 2I], down_proj [E, I, H].
enum class TargetLayout : uint8_t { kHuggingFace, kOriginal, kBf16 };
std::optional<TargetLayout> parse_layout(std::string_view name);  // "hf", "original", "bf16"
const char* name(TargetLayout layout);

struct WriteOptions {
  // A file takes tensors in the order of their names until the next would pass this; a larger
  // tensor has a file of its own. 0: as published, 4.8 GB in Hugging Face's layout, 14 GB in the
  // original one.
  uint64_t max_shard_bytes = 0;
  int num_threads = 0;  // 0: available_cpus()
};

struct WriteSummary {
  int num_files = 0;  // of tensors
  int64_t num_tensors = 0;
  uint64_t tensor_bytes = 0;
  int64_t num_rounded = 0;     // tensors that came as F32 or F16 and were rounded to BF16
  int64_t num_companions = 0;  // tokenizer and other small files copied from `in`
};

// From MXFP4, Hugging Face's or the original layout, to any layout.
WriteSummary convert_checkpoint(const std::filesystem::path& in, const std::filesystem::path& out,
                                TargetLayout layout, const Progress& progress,
                                const WriteOptions& options = {});

// From transformers' bf16 form (F32 and F16 are taken too) to MXFP4 in Hugging Face's layout. Only
// the experts' matrices are quantised. A weight that is NaN, infinite, or so large that its block
// would not decode to finite values is refused.
WriteSummary quantize_checkpoint(const std::filesystem::path& in, const std::filesystem::path& out,
                                 mxfp4::ScaleRule rule, const Progress& progress,
                                 const WriteOptions& options = {});

// Random weights in the shapes of `config` with a tokenizer: a copy of `tokenizer` (a
// tokenizer.json), or one of single bytes, see byte_tokenizer_json(). The same seed gives the same
// bytes on every machine and with any number of threads. Error(kUnsupported) for kBf16.
WriteSummary synthesize_checkpoint(const GptOssConfig& config, const std::filesystem::path& out,
                                   TargetLayout layout,
                                   const std::optional<std::filesystem::path>& tokenizer,
                                   uint64_t seed, const Progress& progress,
                                   const WriteOptions& options = {});

// A tokenizer.json without merges: the 256 bytes at ids 0 .. 255 in o200k's order, and harmony's
// special tokens. Where `vocab_size` reaches past 200018 these have their published ids (and the
// reserved ones between them exist); otherwise the ten that have a name take the last ids, in the
// published order. Error(kInvalidArgument) when vocab_size < 266.
std::string byte_tokenizer_json(int64_t vocab_size);

}  // namespace moxie
