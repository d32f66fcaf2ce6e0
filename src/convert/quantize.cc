#include <algorithm>
#include <cmath>
#include <memory>

#include "base/check.h"
#include "base/thread_pool.h"
#include "convert/checkpoint_source.h"
#include "convert/convert.h"
#include "convert/layouts.h"
#include "convert/repack.h"
#include "convert/tensor_stream.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

SourceElement element_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return SourceElement::kF32;
    case DType::kF16:
      return SourceElement::kF16;
    default:
      MOXIE_CHECK_INTERNAL(dtype == DType::kBF16);
      return SourceElement::kBF16;
  }
}

// Elements as another type, a piece at a time; finite ones must stay finite.
template <class Out>
std::function<void(Emit)> narrowed(const std::string& name, const TensorView& tensor,
                                   Out (*convert)(float)) {
  return [name, tensor, convert](Emit emit) {
    const size_t stride = size_bytes(tensor.dtype), count = tensor.bytes.size() / stride;
    constexpr size_t kStep = size_t{1} << 20;
    std::vector<float> wide(std::min(kStep, count));
    std::vector<Out> out(wide.size());
    for (size_t begin = 0; begin < count; begin += kStep) {
      const size_t size = std::min(kStep, count - begin);
      const std::span<const uint8_t> piece = tensor.bytes.subspan(begin * stride, size * stride);
      widen(piece.data(), element_of(tensor.dtype), static_cast<int64_t>(size), wide.data());
      for (size_t i = 0; i < size; ++i) {
        out[i] = convert(wide[i]);
        MOXIE_CHECK(std::isfinite(to_float(out[i])), kInvalidArgument, tensor.file->path().string(),
                    ": tensor ", name, " holds ", wide[i], " at element ", begin + i,
                    ", which is no finite ", moxie::name(DType::kBF16));
      }
      emit({reinterpret_cast<const uint8_t*>(out.data()), size * sizeof(Out)});
      drop_pages(tensor, piece);
    }
  };
}

// One experts' matrix: produces the codes, and keeps the scales, which come after them in the file.
class ExpertsQuantizer {
 public:
  ExpertsQuantizer(std::string name, const TensorView& tensor, const TensorRow& codes,
                   mxfp4::ScaleRule rule, ThreadPool& pool)
      : name_(std::move(name)),
        tensor_(tensor),
        experts_(codes.shape[0]),
        n_(codes.shape[1]),
        blocks_(codes.shape[2]),
        rule_(rule),
        pool_(pool) {}

  void produce_codes(Emit emit) {
    const int64_t row_bytes = blocks_ * mxfp4::kBlockBytes;
    const int64_t step = std::clamp<int64_t>(static_cast<int64_t>(kPieceBytes) / row_bytes, 1, n_);
    std::vector<uint8_t> codes(static_cast<size_t>(step * row_bytes));
    scales_.resize(static_cast<size_t>(experts_ * n_ * blocks_));
    const size_t expert_bytes = tensor_.bytes.size() / static_cast<size_t>(experts_);
    for (int64_t expert = 0; expert < experts_; ++expert) {
      const std::span<const uint8_t> in =
          tensor_.bytes.subspan(static_cast<size_t>(expert) * expert_bytes, expert_bytes);
      for (int64_t begin = 0; begin < n_; begin += step) {
        const int64_t end = std::min(n_, begin + step);
        const bool good =
            quantize_transposed({.in = in.data(),
                                 .element = element_of(tensor_.dtype),
                                 .n = n_,
                                 .k = blocks_ * mxfp4::kBlock,
                                 .n_begin = begin,
                                 .n_end = end,
                                 .rule = rule_,
                                 .codes = codes.data(),
                                 .scales = scales_.data() + (expert * n_ + begin) * blocks_},
                                pool_);
        MOXIE_CHECK(good, kInvalidArgument, tensor_.file->path().string(), ": tensor ", name_,
                    ", expert ", expert, " of ", experts_,
                    ", holds a weight that is NaN, infinite or of 2^126 and more, which MXFP4 "
                    "cannot hold; is the file damaged?");
        emit({codes.data(), static_cast<size_t>((end - begin) * row_bytes)});
      }
      drop_pages(tensor_, in);
    }
  }

  void produce_scales(Emit emit) {
    MOXIE_CHECK_INTERNAL(!scales_.empty());
    emit(scales_);
    scales_ = {};
  }

 private:
  std::string name_;
  TensorView tensor_;
  int64_t experts_, n_, blocks_;
  mxfp4::ScaleRule rule_;
  ThreadPool& pool_;
  std::vector<uint8_t> scales_;
};

float same(float value) { return value; }

}  // namespace

WriteSummary quantize_checkpoint(const fs::path& in, const fs::path& out, mxfp4::ScaleRule rule,
                                 const Progress& progress, const WriteOptions& options) {
  const CheckpointSource source = open_source(in);
  MOXIE_CHECK(source.form == SourceForm::kDequantized, kInvalidArgument, in.string(),
              " is in MXFP4 already; `moxie convert` changes its layout");
  StagedFolder folder(out, in);
  ThreadPool pool(options.num_threads > 0 ? options.num_threads : available_cpus());

  std::vector<TensorStream> tensors;
  int64_t num_rounded = 0;
  for (size_t i = 0; i < source.table.size(); ++i) {
    const TensorRow& row = source.table[i];
    if (row.kind == TensorKind::kScales) continue;
    if (row.kind == TensorKind::kCodes) {
      const std::string name = dequantized_name(row);
      const TensorRow& scales = source.table[i + 1];
      const auto quantizer =
          std::make_shared<ExpertsQuantizer>(name, source.at(name), row, rule, pool);
      tensors.push_back({row.name, DType::kU8, row.shape,
                         [quantizer](Emit emit) { quantizer->produce_codes(emit); }});
      tensors.push_back({scales.name, DType::kU8, scales.shape,
                         [quantizer](Emit emit) { quantizer->produce_scales(emit); }});
      continue;
    }
    const TensorView& tensor = source.at(row.name);
    if (tensor.dtype == DType::kBF16 ||
        (row.kind == TensorKind::kVector && tensor.dtype == DType::kF32)) {
      tensors.push_back({row.name, tensor.dtype, tensor.shape, copy_of(tensor)});
    } else if (row.kind == TensorKind::kVector) {  // F16: float32 holds it exactly
      tensors.push_back(
          {row.name, DType::kF32, tensor.shape, narrowed<float>(row.name, tensor, same)});
    } else {
      ++num_rounded;
      tensors.push_back(
          {row.name, DType::kBF16, tensor.shape, narrowed<bf16>(row.name, tensor, to_bf16)});
    }
  }
  for (const auto& [name, tensor] : source.tensors) {  // what no model reads
    if (name.ends_with(".rotary_emb.inv_freq") ||
        (name == "lm_head.weight" && source.config.tie_word_embeddings))
      tensors.push_back({name, tensor.dtype, tensor.shape, copy_of(tensor)});
  }

  folder.write_file("config.json", hugging_face_config(source, /*quantized=*/true));
  WriteSummary summary = finish_folder(folder, std::move(tensors), TargetLayout::kHuggingFace,
                                       companions(source), progress, options);
  summary.num_rounded = num_rounded;
  return summary;
}

}  // namespace moxie
