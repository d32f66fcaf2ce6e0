#include "convert/checkpoint_source.h"

#include <algorithm>
#include <initializer_list>
#include <set>
#include <system_error>

#include "base/check.h"
#include "base/dtype.h"
#include "checkpoint/folder_file.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

std::string describe(const TensorView& tensor) {
  return concat(name(tensor.dtype), " ", shape_to_string(tensor.shape));
}

// Takes tensors out of the folder, each checked, and remembers which were taken.
class Taker {
 public:
  explicit Taker(CheckpointSource& source) : source_(source) {}

  const TensorView& take(const std::string& wanted, std::initializer_list<DType> dtypes,
                         const std::vector<int64_t>& shape, const char* advice = "") {
    std::string expected;
    for (const DType dtype : dtypes)
      expected += concat(expected.empty() ? "" : " or ", name(dtype));
    expected += " " + shape_to_string(shape);
    const TensorView* tensor = source_.folder.find(wanted);
    MOXIE_CHECK(tensor != nullptr, kInvalidArgument, source_.path.string(), ": tensor ", wanted,
                " is missing, expected ", expected, "; is the download complete?");
    MOXIE_CHECK(std::find(dtypes.begin(), dtypes.end(), tensor->dtype) != dtypes.end() &&
                    tensor->shape == shape,
                kInvalidArgument, tensor->file->path().string(), ": tensor ", wanted, ": expected ",
                expected, ", found ", describe(*tensor), advice);
    taken_.insert(wanted);
    return *tensor;
  }

  void refuse_rest() {
    const GptOssConfig& config = source_.config;
    for (const auto& [other, tensor] : source_.folder.tensors()) {
      if (taken_.contains(other)) continue;
      // No model reads these; they go along where the layout has a name for them.
      const bool harmless = (other == "lm_head.weight" && config.tie_word_embeddings) ||
                            other.ends_with(".rotary_emb.inv_freq");
      MOXIE_CHECK(harmless, kUnsupported, tensor->file->path().string(), ": tensor ", other, " ",
                  describe(*tensor), " has no place in a gpt-oss model of ", config.num_layers,
                  " layers; is config.json of the same model?");
      source_.tensors[other] = *tensor;
    }
  }

 private:
  CheckpointSource& source_;
  std::set<std::string, std::less<>> taken_;
};

void take_dequantized(CheckpointSource& source, Taker& taker) {
  using enum DType;
  for (const TensorRow& row : source.table) {
    if (row.kind == TensorKind::kScales) continue;
    if (row.kind == TensorKind::kCodes) {
      const std::string wanted = dequantized_name(row);
      source.tensors[wanted] =
          taker.take(wanted, {kBF16, kF32, kF16}, dequantized_shape(row),
                     "; transformers keeps experts as [experts, input, output]");
    } else {
      source.tensors[row.name] = taker.take(row.name, {kBF16, kF32, kF16}, row.shape);
    }
  }
}

const TensorView& take_row(Taker& taker, const TensorRow& row, const std::string& wanted,
                           const std::vector<int64_t>& shape) {
  using enum DType;
  switch (row.kind) {
    case TensorKind::kMatrix:
      return taker.take(wanted, {kBF16}, shape);
    case TensorKind::kVector:
      return taker.take(wanted, {kBF16, kF32}, shape);
    default:
      return taker.take(wanted, {kU8}, shape);
  }
}

// Rows that share an original name are its parts, one under the other.
void take_original(CheckpointSource& source, Taker& taker) {
  for (size_t begin = 0, end; begin < source.table.size(); begin = end) {
    std::vector<int64_t> whole = source.table[begin].shape;
    for (end = begin + 1;
         end < source.table.size() && source.table[end].original == source.table[begin].original;
         ++end)
      whole[0] += source.table[end].shape[0];
    const TensorView& tensor =
        take_row(taker, source.table[begin], source.table[begin].original, whole);
    const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(whole[0]);
    size_t offset = 0;
    for (size_t part = begin; part < end; ++part) {
      const TensorRow& row = source.table[part];
      const size_t size = row_bytes * static_cast<size_t>(row.shape[0]);
      source.tensors[row.name] = {tensor.dtype, row.shape, tensor.bytes.subspan(offset, size),
                                  tensor.file};
      offset += size;
    }
  }
}

}  // namespace

const TensorView& CheckpointSource::at(const std::string& name) const {
  const auto found = tensors.find(name);
  MOXIE_CHECK_INTERNAL(found != tensors.end());
  return found->second;
}

CheckpointSource open_source(const fs::path& path) {
  CheckpointSource source{.path = path, .config = read_config(path), .folder = TensorFolder(path)};
  source.table = tensor_table(source.config);
  Taker taker(source);
  // The tensors' names decide, not what config.json says: tools mix the two.
  if (source.folder.find("embedding.weight") != nullptr) {
    source.form = SourceForm::kOriginal;
    take_original(source, taker);
  } else {
    MOXIE_CHECK(source.folder.find("model.embed_tokens.weight") != nullptr, kInvalidArgument,
                path.string(), ": neither model.embed_tokens.weight nor embedding.weight is among ",
                source.folder.tensors().size(),
                " tensors: this is no gpt-oss checkpoint, or only a part of one");
    const bool dequantized =
        std::any_of(source.table.begin(), source.table.end(), [&](const TensorRow& row) {
          return row.kind == TensorKind::kCodes &&
                 source.folder.find(dequantized_name(row)) != nullptr;
        });
    if (dequantized) {
      source.form = SourceForm::kDequantized;
      take_dequantized(source, taker);
    } else {
      for (const TensorRow& row : source.table)
        source.tensors[row.name] = take_row(taker, row, row.name, row.shape);
    }
  }
  taker.refuse_rest();
  return source;
}

std::vector<Companion> companions(const CheckpointSource& source) {
  static constexpr const char* kNames[] = {"tokenizer.json",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "chat_template.jinja",
                                           "chat_template.json",
                                           "vocab.json",
                                           "merges.txt",
                                           "o200k_harmony.tiktoken",
                                           "o200k_base.tiktoken",
                                           "generation_config.json",
                                           "LICENSE",
                                           "LICENSE.txt",
                                           "USAGE_POLICY"};
  fs::path folder = source.path;
  std::error_code error;
  if (source.form == SourceForm::kOriginal && !fs::exists(folder / "tokenizer.json", error)) {
    const fs::path above = fs::weakly_canonical(folder, error).parent_path();
    if (!error && fs::exists(above / "tokenizer.json", error)) folder = above;
  }
  std::vector<Companion> found;
  for (const char* name : kNames) {
    if (!folder_file_exists(folder, name)) continue;
    check_folder_link(folder, name);
    const uint64_t size = fs::file_size(folder / name, error);
    MOXIE_CHECK(!error, kIo, (folder / name).string(), ": ", error.message());
    found.push_back({folder / name, name, size});
  }
  return found;
}

}  // namespace moxie
