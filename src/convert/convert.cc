#include "convert/convert.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/thread_pool.h"
#include "convert/checkpoint_source.h"
#include "convert/layouts.h"
#include "convert/repack.h"
#include "convert/tensor_stream.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

// Rows of the dequantised matrix [k, n] that fit in a piece, a multiple of 32.
int64_t rows_per_piece(int64_t n) {
  const int64_t rows = static_cast<int64_t>(kPieceBytes) / (n * int64_t{sizeof(bf16)});
  return std::max<int64_t>(mxfp4::kBlock, rows / mxfp4::kBlock * mxfp4::kBlock);
}

std::function<void(Emit)> dequantized(const TensorView& codes, const TensorView& scales,
                                      ThreadPool& pool) {
  return [codes, scales, &pool](Emit emit) {
    const int64_t experts = codes.shape[0], n = codes.shape[1], k = codes.shape[2] * mxfp4::kBlock;
    const size_t codes_bytes = codes.bytes.size() / static_cast<size_t>(experts);
    const size_t scales_bytes = scales.bytes.size() / static_cast<size_t>(experts);
    const int64_t step = rows_per_piece(n);
    std::vector<bf16> rows(static_cast<size_t>(std::min(step, k) * n));
    for (int64_t expert = 0; expert < experts; ++expert) {
      const std::span<const uint8_t> expert_codes =
          codes.bytes.subspan(static_cast<size_t>(expert) * codes_bytes, codes_bytes);
      const std::span<const uint8_t> expert_scales =
          scales.bytes.subspan(static_cast<size_t>(expert) * scales_bytes, scales_bytes);
      for (int64_t begin = 0; begin < k; begin += step) {
        const int64_t end = std::min(k, begin + step);
        dequantize_transposed({.codes = expert_codes.data(),
                               .scales = expert_scales.data(),
                               .n = n,
                               .k = k,
                               .k_begin = begin,
                               .k_end = end,
                               .out = rows.data()},
                              pool);
        emit({reinterpret_cast<const uint8_t*>(rows.data()),
              static_cast<size_t>((end - begin) * n) * sizeof(bf16)});
      }
      drop_pages(codes, expert_codes);
      drop_pages(scales, expert_scales);
    }
  };
}

std::vector<TensorStream> dequantized_tensors(const CheckpointSource& source, ThreadPool& pool) {
  std::vector<TensorStream> tensors;
  std::set<std::string> packed;
  for (size_t i = 0; i < source.table.size(); ++i) {
    const TensorRow& row = source.table[i];
    if (row.kind != TensorKind::kCodes) continue;
    const TensorRow& scales = source.table[i + 1];
    MOXIE_CHECK_INTERNAL(scales.kind == TensorKind::kScales);
    packed.insert({row.name, scales.name});
    tensors.push_back({dequantized_name(row), DType::kBF16, dequantized_shape(row),
                       dequantized(source.at(row.name), source.at(scales.name), pool)});
  }
  for (const auto& [name, tensor] : source.tensors) {
    if (!packed.contains(name))
      tensors.push_back({name, tensor.dtype, tensor.shape, copy_of(tensor)});
  }
  return tensors;
}

}  // namespace

std::optional<TargetLayout> parse_layout(std::string_view text) {
  for (const TargetLayout layout :
       {TargetLayout::kHuggingFace, TargetLayout::kOriginal, TargetLayout::kBf16})
    if (text == name(layout)) return layout;
  return std::nullopt;
}

const char* name(TargetLayout layout) {
  switch (layout) {
    case TargetLayout::kHuggingFace:
      return "hf";
    case TargetLayout::kOriginal:
      return "original";
    case TargetLayout::kBf16:
      return "bf16";
  }
  return "unknown layout";
}

WriteSummary convert_checkpoint(const fs::path& in, const fs::path& out, TargetLayout layout,
                                const Progress& progress, const WriteOptions& options) {
  const CheckpointSource source = open_source(in);
  MOXIE_CHECK(source.form != SourceForm::kDequantized, kUnsupported, in.string(),
              " holds experts that are not quantised; `moxie quantize` makes MXFP4 of them");
  StagedFolder folder(out, in);
  ThreadPool pool(options.num_threads > 0 ? options.num_threads : available_cpus());

  std::vector<TensorStream> tensors;
  std::string config;
  const bool packed = layout != TargetLayout::kBf16;
  if (packed) {
    for (const auto& [name, tensor] : source.tensors)
      tensors.push_back({name, tensor.dtype, tensor.shape, copy_of(tensor)});
  } else {
    tensors = dequantized_tensors(source, pool);
  }
  if (layout == TargetLayout::kOriginal) {
    config = original_config(source.config, in.string());
    tensors = in_original_layout(std::move(tensors), source.table);
    folder.write_file("dtypes.json", original_dtypes(tensors));
  } else {
    config = hugging_face_config(source, packed);
  }
  folder.write_file("config.json", config);
  return finish_folder(folder, std::move(tensors), layout, companions(source), progress, options);
}

}  // namespace moxie
