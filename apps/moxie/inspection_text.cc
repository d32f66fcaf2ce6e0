#include "inspection_text.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/json.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}
std::string right(const std::string& text, size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

std::string format_count(int64_t count) {
  if (count < 1000000) return std::to_string(count);
  const double value = static_cast<double>(count);
  return count < 1000000000 ? concat(format_fixed(value * 1e-6, 1), " million")
                            : concat(format_fixed(value * 1e-9, 2), " billion");
}

const char* describe(FolderForm form) {
  switch (form) {
    case FolderForm::kPacked:
      return "Hugging Face's layout, experts in MXFP4";
    case FolderForm::kOriginal:
      return "original layout, experts in MXFP4";
    case FolderForm::kDequantized:
      return "Hugging Face's layout, experts not quantised";
  }
  return "";
}

std::string layer_kinds(const GptOssConfig& config) {
  const auto sliding =
      std::count(config.layer_is_sliding.begin(), config.layer_is_sliding.end(), true);
  return concat(sliding, " with a window of ", config.sliding_window, " tokens, ",
                config.num_layers - sliding, " with full attention");
}

std::string rotary(const GptOssConfig& config) {
  if (config.rope_scaling == RopeScaling::kNone) return concat("theta ", config.rope_theta);
  return concat("theta ", config.rope_theta, ", YaRN factor ", config.yarn_factor, " over ",
                config.yarn_original_context, " (beta ", config.yarn_beta_fast, " to ",
                config.yarn_beta_slow, config.yarn_truncate ? ", truncated)" : ")");
}

std::string configuration(const Inspection& found) {
  const GptOssConfig& config = found.config;
  std::string text = "Configuration\n";
  const auto row = [&](const char* what, const std::string& value) {
    text += concat("  ", padded(what, 16), value, "\n");
  };
  row("layers", concat(config.num_layers, ": ", layer_kinds(config)));
  row("experts", concat(config.num_experts, " in each layer, ", config.experts_per_token,
                        " used for a token"));
  row("sizes", concat("hidden ", config.hidden_size, ", experts' inner ", config.intermediate_size,
                      ", vocabulary ", config.vocab_size,
                      config.tie_word_embeddings ? " (unembedding tied)" : ""));
  row("attention", concat(config.num_q_heads, " query heads, ", config.num_kv_heads,
                          " key/value heads of ", config.head_dim));
  row("positions", concat(config.max_position, ", ", rotary(config)));
  row("constants", concat("RMS epsilon ", config.rms_norm_eps, ", SwiGLU alpha ",
                          config.swiglu_alpha, " limit ", config.swiglu_limit));
  row("parameters", concat(format_count(found.parameters.total), ", ",
                           format_count(found.parameters.active), " used for a token"));
  return text;
}

std::string tensor_table(const Inspection& found, const TensorFolder* all_tensors) {
  std::string text = concat("Tensors: ", found.num_tensors, ", ", format_bytes(found.tensor_bytes),
                            " in ", found.num_files, found.num_files == 1 ? " file\n" : " files\n");
  const auto row = [&](const std::string& name, const std::string& count, const std::string& dtype,
                       const std::vector<int64_t>& shape, uint64_t bytes, size_t width) {
    text += concat("  ", padded(name, width), count, padded(dtype, 5),
                   padded(shape_to_string(shape), 23), right(format_bytes(bytes), 9), "\n");
  };
  size_t width = 0;
  if (all_tensors != nullptr) {
    for (const auto& [tensor_name, tensor] : all_tensors->tensors())
      width = std::max(width, tensor_name.size() + 2);
    for (const auto& [tensor_name, tensor] : all_tensors->tensors())
      row(tensor_name, "", name(tensor->dtype), tensor->shape, tensor->bytes.size(), width);
    return text;
  }
  for (const TensorGroup& group : found.groups) width = std::max(width, group.pattern.size() + 2);
  for (const TensorGroup& group : found.groups)
    row(group.pattern, padded(concat(group.count, " x"), 6), group.dtype, group.shape, group.bytes,
        width);
  return text;
}

std::string kinds(const Inspection& found) {
  std::vector<std::pair<std::string_view, uint64_t>> rows(found.bytes_by_kind.begin(),
                                                          found.bytes_by_kind.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text = "Bytes by kind\n";
  for (const auto& [kind, bytes] : rows) {
    const double share = 100 * static_cast<double>(bytes) /
                         static_cast<double>(std::max<uint64_t>(1, found.tensor_bytes));
    text += concat("  ", padded(std::string(kind), 16), right(format_bytes(bytes), 9),
                   right(format_fixed(share, 1), 7), " %\n");
  }
  return text;
}

std::string memory(const MemoryPlan& plan) {
  std::string text =
      concat("Memory to run it with ", plan.context, " tokens of context on ", plan.backend, "\n");
  const auto row = [&](const char* what, uint64_t bytes, const char* remark) {
    text += concat("  ", padded(what, 16), right(format_bytes(bytes), 9), remark, "\n");
  };
  row("weights", plan.weights_bytes, "  mapped from the files, read as they are used");
  row("key/value cache", plan.cache_bytes, "  taken as the context fills");
  row("workspace", plan.workspace_bytes, "");
  row("total", plan.total_bytes(), "");
  struct sysinfo machine = {};
  if (sysinfo(&machine) == 0) {
    const uint64_t has = uint64_t{machine.totalram} * machine.mem_unit;
    row("this machine has", has,
        plan.total_bytes() > has ? "  too little; a smaller --ctx needs less" : "");
  }
  return text;
}

std::string scale_histogram(const Inspection& found) {
  constexpr size_t kWidth = 40;
  const uint64_t most = *std::max_element(found.scales.begin(), found.scales.end());
  if (most == 0) return "";
  uint64_t total = 0;
  for (const uint64_t count : found.scales) total += count;
  std::string text = "E8M0 scales of the experts' blocks\n";
  for (size_t scale = 0; scale < found.scales.size(); ++scale) {
    const uint64_t count = found.scales[scale];
    if (count == 0) continue;
    const double share = static_cast<double>(count) / static_cast<double>(most);
    const double percent = 100 * static_cast<double>(count) / static_cast<double>(total);
    text += concat("  ", right(std::to_string(scale), 3), "  ",
                   padded(scale == 255 ? "NaN" : concat("2^", static_cast<int>(scale) - 127), 7),
                   right(std::to_string(count), 12), right(format_fixed(percent, 3), 9), " %  ",
                   std::string(static_cast<size_t>(std::ceil(share * kWidth)), '#'), "\n");
  }
  return text;
}

std::string shape_json(const std::vector<int64_t>& shape) {
  return shape_to_string(shape);  // "[32, 5760, 90, 16]" is JSON as it stands
}

}  // namespace

std::string inspection_text(const Inspection& found, const TensorFolder* all_tensors) {
  std::string text = concat(found.folder.string(), ": gpt-oss, ", describe(found.form), "\n\n",
                            configuration(found), "\n", tensor_table(found, all_tensors), "\n",
                            kinds(found), "\n");
  if (found.memory)
    text += memory(*found.memory) + "\n";
  else
    text += concat("This checkpoint cannot be run as it is: ", found.unusable, "\n\n");
  return text + scale_histogram(found);
}

std::string inspection_json(const Inspection& found, const TensorFolder* all_tensors, bool checked,
                            std::span<const std::string> problems) {
  const GptOssConfig& config = found.config;
  std::string text = concat("{\"folder\": ", json::quote(found.folder.string()),
                            ", \"layout\": ", json::quote(name(found.form)),
                            ", \"config\": ", write_config(config, CheckpointLayout::kHuggingFace));
  text += concat(", \"parameters\": ", found.parameters.total,
                 ", \"active_parameters\": ", found.parameters.active,
                 ", \"num_tensors\": ", found.num_tensors, ", \"num_files\": ", found.num_files,
                 ", \"tensor_bytes\": ", found.tensor_bytes, ", \"bytes_by_kind\": {");
  const char* separator = "";
  for (const auto& [kind, bytes] : found.bytes_by_kind) {
    text += concat(separator, json::quote(kind), ": ", bytes);
    separator = ", ";
  }
  text += "}, \"tensors\": [";
  separator = "";
  if (all_tensors != nullptr) {
    for (const auto& [tensor_name, tensor] : all_tensors->tensors()) {
      text +=
          concat(separator, "{\"name\": ", json::quote(tensor_name),
                 ", \"dtype\": ", json::quote(name(tensor->dtype)),
                 ", \"shape\": ", shape_json(tensor->shape), ", \"bytes\": ", tensor->bytes.size(),
                 ", \"file\": ", json::quote(tensor->file->path().filename().string()), "}");
      separator = ", ";
    }
  } else {
    for (const TensorGroup& group : found.groups) {
      text += concat(separator, "{\"name\": ", json::quote(group.pattern),
                     ", \"count\": ", group.count, ", \"dtype\": ", json::quote(group.dtype),
                     ", \"shape\": ", shape_json(group.shape), ", \"bytes\": ", group.bytes, "}");
      separator = ", ";
    }
  }
  text += "], \"memory\": ";
  if (found.memory) {
    const MemoryPlan& plan = *found.memory;
    text += concat("{\"context\": ", plan.context, ", \"weights_bytes\": ", plan.weights_bytes,
                   ", \"cache_bytes\": ", plan.cache_bytes,
                   ", \"workspace_bytes\": ", plan.workspace_bytes,
                   ", \"total_bytes\": ", plan.total_bytes(),
                   ", \"backend\": ", json::quote(plan.backend), "}");
  } else {
    text += concat("null, \"unusable\": ", json::quote(found.unusable));
  }
  text += ", \"scales\": {";
  separator = "";
  for (size_t scale = 0; scale < found.scales.size(); ++scale) {
    if (found.scales[scale] == 0) continue;
    text += concat(separator, "\"", scale, "\": ", found.scales[scale]);
    separator = ", ";
  }
  text += "}";
  if (checked) {
    text += ", \"problems\": [";
    separator = "";
    for (const std::string& problem : problems) {
      text += separator + json::quote(problem);
      separator = ", ";
    }
    text += "]";
  }
  return text + "}\n";
}

}  // namespace moxie::cli
