// What the layouts need besides tensors, and the last steps of every output folder.
#pragma once

#include <string>
#include <vector>

#include "convert/checkpoint_source.h"
#include "convert/convert.h"
#include "convert/tensor_stream.h"

namespace moxie {

// Tensors under Hugging Face's names become those of the original layout: renamed, q, k and v as
// one. Those that no model reads are left out.
std::vector<TensorStream> in_original_layout(std::vector<TensorStream> tensors,
                                             const std::vector<TensorRow>& table);

// dtypes.json: codes are called "FP4", scales "UE8".
std::string original_dtypes(const std::vector<TensorStream>& tensors);

// config.json in Hugging Face's spelling, with quantization_config or without. Keys that moxie does
// not know stay, where the input has that spelling too.
std::string hugging_face_config(const CheckpointSource& source, bool quantized);

// config.json in the original's spelling. Error(kUnsupported) naming what that file cannot say and
// the reference implementation would therefore take for something else.
std::string original_config(const GptOssConfig& config, std::string_view source);

// Copies the companions, writes the tensors, gives the folder its name.
WriteSummary finish_folder(StagedFolder& folder, std::vector<TensorStream> tensors,
                           TargetLayout layout, const std::vector<Companion>& companions,
                           const Progress& progress, const WriteOptions& options);

}  // namespace moxie
