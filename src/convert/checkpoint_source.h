// A checkpoint as the input of a conversion: every tensor under Hugging Face's name, whichever
// layout the files have, and checked against the configuration.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "convert/staged_folder.h"
#include "convert/tensor_table.h"

namespace moxie {

// How the experts lie in the files.
enum class SourceForm : uint8_t {
  kPacked,       // MXFP4, Hugging Face's names
  kOriginal,     // MXFP4, the original names
  kDequantized,  // transformers' BF16, F32 or F16
};

struct CheckpointSource {
  std::filesystem::path path;
  GptOssConfig config;
  SourceForm form = SourceForm::kPacked;
  TensorFolder folder;
  std::vector<TensorRow> table;
  // Views into `folder`: the rows of the table, kCodes and kScales rows of a kDequantized source
  // replaced by dequantized_name(); and what some tools add although no model reads it.
  std::map<std::string, TensorView, std::less<>> tensors;

  const TensorView& at(const std::string& name) const;
};

// Throws Error(kInvalidArgument / kUnsupported): a missing tensor, a wrong dtype or shape, a tensor
// that has no place in the model.
CheckpointSource open_source(const std::filesystem::path& path);

// The small files that go along: tokenizer, chat template, generation_config.json, licence. Those
// of an original checkpoint may lie one folder up, as published.
struct Companion {
  std::filesystem::path from;
  std::string name;
  uint64_t size_bytes = 0;
};
std::vector<Companion> companions(const CheckpointSource& source);

}  // namespace moxie
