#include "convert/layouts.h"

#include <map>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/folder_file.h"
#include "convert/json_text.h"

namespace moxie {
namespace {

// o200k_harmony, the vocabulary of published checkpoints.
constexpr int64_t kLastPublishedId = 200018, kReturnId = 200002, kEndOfTextId = 199999;

// write_config() refuses what it knows that file cannot say; this holds for whatever it does not.
void check_reads_back(const GptOssConfig& want, const GptOssConfig& got, std::string_view source) {
  const auto check = [&](bool same, const char* what) {
    MOXIE_CHECK(same, kUnsupported, source, ": the original layout's config.json cannot express ",
                what, " of this model; choose the layout hf");
  };
  check(want.max_position == got.max_position, "max_position_embeddings");
  check(want.layer_is_sliding == got.layer_is_sliding, "layer_types");
  check(want.rope_scaling == got.rope_scaling && want.rope_theta == got.rope_theta &&
            want.yarn_factor == got.yarn_factor && want.yarn_beta_fast == got.yarn_beta_fast &&
            want.yarn_beta_slow == got.yarn_beta_slow &&
            want.yarn_original_context == got.yarn_original_context,
        "the rotary embedding");
}

}  // namespace

std::vector<TensorStream> in_original_layout(std::vector<TensorStream> tensors,
                                             const std::vector<TensorRow>& table) {
  std::map<std::string, TensorStream> by_name;
  for (TensorStream& tensor : tensors) {
    const std::string name = tensor.name;
    by_name.emplace(name, std::move(tensor));
  }
  std::vector<TensorStream> renamed;
  for (const TensorRow& row : table) {
    TensorStream part = std::move(by_name.at(row.name));
    if (renamed.empty() || renamed.back().name != row.original) {
      part.name = row.original;
      renamed.push_back(std::move(part));
      continue;
    }
    TensorStream& whole = renamed.back();
    MOXIE_CHECK(whole.dtype == part.dtype, kUnsupported, "tensor ", row.name, " is ",
                name(part.dtype), " and what it is joined with in ", row.original, " is ",
                name(whole.dtype), "; expected the same");
    whole.shape[0] += part.shape[0];
    whole.produce = [first = std::move(whole.produce),
                     second = std::move(part.produce)](Emit emit) {
      first(emit);
      second(emit);
    };
  }
  return renamed;
}

std::string original_dtypes(const std::vector<TensorStream>& tensors) {
  std::map<std::string, std::string> labels;
  for (const TensorStream& tensor : tensors) {
    const std::string_view label = tensor.name.ends_with(".blocks")   ? "FP4"
                                   : tensor.name.ends_with(".scales") ? "UE8"
                                                                      : name(tensor.dtype);
    labels[tensor.name] = label;
  }
  std::string text = "{";
  const char* separator = "\n  ";
  for (const auto& [tensor, label] : labels) {
    text += concat(separator, json::quote(tensor), ": ", json::quote(label));
    separator = ",\n  ";
  }
  return text + "\n}\n";
}

std::string original_config(const GptOssConfig& config, std::string_view source) {
  const std::string text = write_config(config, CheckpointLayout::kOriginal);
  check_reads_back(config, parse_config(text, "the original layout's config.json"), source);
  return text;
}

std::string hugging_face_config(const CheckpointSource& source, bool quantized) {
  if (source.config.layout == CheckpointLayout::kHuggingFace) {
    constexpr size_t kMaxBytes = size_t{1} << 20;
    return with_quantization(read_folder_file(source.path, "config.json", kMaxBytes),
                             (source.path / "config.json").string(), quantized);
  }
  GptOssConfig config = source.config;
  config.quantized = quantized;
  // The original's file leaves these to the code around it.
  if (!config.eos_token_id) {
    const std::vector<int32_t> stops = read_generation_config(source.path).eos_token_ids;
    if (!stops.empty()) config.eos_token_id = stops.front();
  }
  if (config.vocab_size > kLastPublishedId) {
    if (!config.eos_token_id) config.eos_token_id = kReturnId;
    if (!config.pad_token_id) config.pad_token_id = kEndOfTextId;
  }
  return write_config(config, CheckpointLayout::kHuggingFace);
}

WriteSummary finish_folder(StagedFolder& folder, std::vector<TensorStream> tensors,
                           TargetLayout layout, const std::vector<Companion>& companions,
                           const Progress& progress, const WriteOptions& options) {
  uint64_t companion_bytes = 0;
  for (const Companion& companion : companions) companion_bytes += companion.size_bytes;
  WriteSummary summary = write_tensors(folder, std::move(tensors), layout, options.max_shard_bytes,
                                       companion_bytes, progress);
  for (const Companion& companion : companions) folder.copy_file(companion.from, companion.name);
  summary.num_companions = static_cast<int64_t>(companions.size());
  folder.commit();
  return summary;
}

}  // namespace moxie
