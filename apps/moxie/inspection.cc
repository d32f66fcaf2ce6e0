#include "inspection.h"

#include <algorithm>
#include <cctype>

#include "backend/backend.h"
#include "base/check.h"
#include "base/thread_pool.h"
#include "model/model.h"
#include "model_options.h"

namespace moxie::cli {
namespace {

bool is_codes(std::string_view name) {
  return name.ends_with("_blocks") || name.ends_with(".blocks");
}
bool is_scales(std::string_view name) {
  return name.ends_with("_scales") || name.ends_with(".scales");
}
bool is_embedding(std::string_view name) {
  return name == "model.embed_tokens.weight" || name == "embedding.weight";
}

bool is_experts(std::string_view name) {
  return name.find(".mlp.experts.") != name.npos || name.find(".mlp.mlp1_") != name.npos ||
         name.find(".mlp.mlp2_") != name.npos;
}

std::vector<TensorGroup> group(const TensorFolder& tensors) {
  std::map<std::string, TensorGroup> groups;  // in the order of their names
  for (const auto& [tensor_name, tensor] : tensors.tensors()) {
    const std::string pattern = layer_pattern(tensor_name);
    const std::string shape = shape_to_string(tensor->shape);
    TensorGroup& here = groups[concat(pattern, " ", name(tensor->dtype), " ", shape)];
    here.pattern = pattern;
    here.dtype = name(tensor->dtype);
    here.shape = tensor->shape;
    ++here.count;
    here.bytes += tensor->bytes.size();
  }
  std::vector<TensorGroup> list;
  for (auto& [key, value] : groups) list.push_back(std::move(value));
  return list;
}

ParameterCount count_parameters(const TensorFolder& tensors, const GptOssConfig& config) {
  ParameterCount count;
  for (const auto& [tensor_name, tensor] : tensors.tensors()) {
    if (is_scales(tensor_name)) continue;
    const int64_t elements = tensor->num_elements() * (is_codes(tensor_name) ? 2 : 1);
    count.total += elements;
    if (is_experts(tensor_name))
      count.active += elements / config.num_experts * config.experts_per_token;
    else if (!is_embedding(tensor_name) || config.tie_word_embeddings)
      count.active += elements;
  }
  return count;
}

FolderForm form_of(const TensorFolder& tensors) {
  if (tensors.find("embedding.weight") != nullptr) return FolderForm::kOriginal;
  const auto is_plain = [](const auto& entry) {
    return entry.first.ends_with(".mlp.experts.gate_up_proj");
  };
  return std::any_of(tensors.tensors().begin(), tensors.tensors().end(), is_plain)
             ? FolderForm::kDequantized
             : FolderForm::kPacked;
}

MemoryPlan plan_memory(const std::filesystem::path& folder, int64_t context, int num_threads) {
  GptOssWeights weights = load_weights(folder);
  const GptOssConfig config = weights.config;
  MemoryPlan plan;
  plan.context = context > 0 ? context : config.max_position;
  plan.weights_bytes = weights.folder->total_bytes();
  const int64_t rows = std::min(kPrefillRows, plan.context);
  const Model model(std::move(weights), make_backend({.num_threads = num_threads}), rows, 1,
                    plan.context);
  plan.workspace_bytes = static_cast<uint64_t>(model.workspace_bytes());
  plan.cache_bytes = static_cast<uint64_t>(
      KvCache::size_bytes(config, model.backend().activation_dtype(), plan.context, rows));
  plan.backend = model.backend().description();
  return plan;
}

void count_scales(const TensorFolder& tensors, int num_threads, const ReadProgress& progress,
                  std::array<uint64_t, 256>& counts) {
  constexpr size_t kPiece = size_t{1} << 20;
  ThreadPool pool(num_threads > 0 ? num_threads : available_cpus());
  std::vector<std::array<uint64_t, 256>> partial(static_cast<size_t>(pool.num_threads()));
  uint64_t total = 0, done = 0;
  for (const auto& [tensor_name, tensor] : tensors.tensors())
    if (is_scales(tensor_name)) total += tensor->bytes.size();
  for (const auto& [tensor_name, tensor] : tensors.tensors()) {
    if (!is_scales(tensor_name) || tensor->dtype != DType::kU8) continue;
    const std::span<const uint8_t> bytes = tensor->bytes;
    pool.parallel_for(
        static_cast<int>((bytes.size() + kPiece - 1) / kPiece), [&](int task, int worker) {
          std::array<uint64_t, 256>& mine = partial[static_cast<size_t>(worker)];
          const size_t begin = static_cast<size_t>(task) * kPiece;
          for (const uint8_t scale : bytes.subspan(begin, std::min(kPiece, bytes.size() - begin)))
            ++mine[scale];
        });
    done += bytes.size();
    progress(done, total, tensor_name);
  }
  for (const std::array<uint64_t, 256>& part : partial)
    for (size_t scale = 0; scale < counts.size(); ++scale) counts[scale] += part[scale];
}

}  // namespace

const char* name(FolderForm form) {
  switch (form) {
    case FolderForm::kPacked:
      return "hf";
    case FolderForm::kOriginal:
      return "original";
    case FolderForm::kDequantized:
      return "bf16";
  }
  return "unknown form";
}

std::string layer_pattern(std::string_view tensor_name) {
  std::string pattern;
  for (size_t i = 0; i < tensor_name.size(); ++i) {
    size_t end = i;
    while (end < tensor_name.size() && std::isdigit(static_cast<unsigned char>(tensor_name[end])))
      ++end;
    const bool whole_part = end > i && i > 0 && tensor_name[i - 1] == '.' &&
                            end < tensor_name.size() && tensor_name[end] == '.';
    if (whole_part) {
      pattern += '*';
      i = end - 1;
    } else {
      pattern += tensor_name[i];
    }
  }
  return pattern;
}

std::string_view kind_of(std::string_view tensor_name) {
  const auto has = [&](std::string_view part) {
    return tensor_name.find(part) != tensor_name.npos;
  };
  if (is_embedding(tensor_name)) return "embedding";
  if (tensor_name == "lm_head.weight" || tensor_name == "unembedding.weight") return "unembedding";
  if (is_experts(tensor_name)) {
    if (is_codes(tensor_name)) return "expert codes";
    if (is_scales(tensor_name)) return "expert scales";
    return tensor_name.ends_with("bias") ? "expert biases" : "expert matrices";
  }
  if (has("norm")) return "norms";
  if (has(".self_attn.") || has(".attn.")) return "attention";
  if (has(".mlp.router.") || has(".mlp.gate.")) return "router";
  return "other";
}

Inspection inspect_folder(const std::filesystem::path& folder, const TensorFolder& tensors,
                          int64_t context, int num_threads, ReadScales scales,
                          const ReadProgress& progress) {
  Inspection found;
  found.folder = folder;
  found.config = read_config(folder);
  MOXIE_CHECK(context <= found.config.max_position, kInvalidArgument, "--ctx ", context,
              " is more than the ", found.config.max_position, " positions that ",
              (folder / "config.json").string(), " allows");
  found.form = form_of(tensors);
  found.groups = group(tensors);
  for (const auto& [tensor_name, tensor] : tensors.tensors())
    found.bytes_by_kind[kind_of(tensor_name)] += tensor->bytes.size();
  found.num_tensors = static_cast<int64_t>(tensors.tensors().size());
  found.num_files = static_cast<int64_t>(tensors.files().size());
  found.tensor_bytes = tensors.total_bytes();
  found.parameters = count_parameters(tensors, found.config);
  try {
    found.memory = plan_memory(folder, context, num_threads);
  } catch (const Error& error) {
    found.unusable = error.what();
  }
  if (scales == ReadScales::kYes) count_scales(tensors, num_threads, progress, found.scales);
  return found;
}

}  // namespace moxie::cli
