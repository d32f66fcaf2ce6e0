#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/thread_pool.h"
#include "convert/convert.h"
#include "convert/layouts.h"
#include "convert/tensor_stream.h"
#include "moxie/tokenizer.h"
#include "ops/reference/random.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTaskBytes = size_t{256} << 10;

// A tensor's random stream follows from the seed and its name alone.
uint64_t tensor_seed(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return random_bits(seed, hash);
}

// Fills bytes [offset, offset + out.size()) of a tensor.
using Fill = std::function<void(uint64_t offset, std::span<uint8_t> out)>;

// Elements are drawn from 4096 normal numbers: one hash for four.
Fill normal_bf16(uint64_t seed, float mean, float deviation) {
  constexpr size_t kTable = 4096;
  auto table = std::make_shared<std::vector<bf16>>(kTable);
  fill_normal(std::span<bf16>(*table), seed, deviation, mean);
  return [seed, table](uint64_t offset, std::span<uint8_t> out) {
    const bf16* values = table->data();
    for (size_t i = 0; i < out.size(); i += 8) {
      const uint64_t bits = random_bits(seed, (offset + i) / 8);
      bf16 four[4];
      for (int j = 0; j < 4; ++j) four[j] = values[(bits >> (16 * j)) % kTable];
      std::memcpy(out.data() + i, four, std::min<size_t>(8, out.size() - i));
    }
  };
}

Fill uniform_bytes(uint64_t seed) {
  return [seed](uint64_t offset, std::span<uint8_t> out) {
    for (size_t i = 0; i < out.size(); i += 8) {
      const uint64_t bits = random_bits(seed, (offset + i) / 8);
      std::memcpy(out.data() + i, &bits, std::min<size_t>(8, out.size() - i));
    }
  };
}

// Scales that give a row of k uniform codes a deviation of about size / sqrt(k), spread over three
// powers of two as in published checkpoints. The root mean square of E2M1's values is 2.93.
Fill scales_around(uint64_t seed, int64_t k, double size) {
  const double unit = size / (2.93 * std::sqrt(static_cast<double>(k)));
  const int middle = 127 + static_cast<int>(std::lround(std::log2(unit)));
  return [seed, middle](uint64_t offset, std::span<uint8_t> out) {
    for (size_t i = 0; i < out.size(); i += 8) {
      const uint64_t bits = random_bits(seed, (offset + i) / 8);
      for (size_t j = 0; j < std::min<size_t>(8, out.size() - i); ++j) {
        const uint64_t two = bits >> (8 * j);
        out[i + j] = static_cast<uint8_t>(middle + static_cast<int>(two & 1u) -
                                          static_cast<int>((two >> 1) & 1u));
      }
    }
  };
}

// Embeddings of size 1 and experts that add little: what the router sees stays as varied as the
// tokens are, and so routing stays close to uniform.
Fill filling(const TensorRow& row, uint64_t seed) {
  const auto is = [&](std::string_view ending) { return row.name.ends_with(ending); };
  const auto unit = [&] { return 1 / std::sqrt(static_cast<float>(row.shape.back())); };
  switch (row.kind) {
    case TensorKind::kCodes:
      return uniform_bytes(seed);
    case TensorKind::kScales:
      return scales_around(seed, row.shape.back() * mxfp4::kBlock, 0.5);
    case TensorKind::kMatrix:
      return normal_bf16(seed, 0,
                         is("embed_tokens.weight") ? 1.0f
                         : is("o_proj.weight")     ? 0.5f * unit()
                         : is("lm_head.weight")    ? 2 * unit()
                                                   : unit());
    case TensorKind::kVector:
      if (is("norm.weight")) return normal_bf16(seed, 1, 0.1f);
      if (is("sinks")) return normal_bf16(seed, 0, 1);
      return normal_bf16(
          seed, 0, is("q_proj.bias") || is("k_proj.bias") || is("v_proj.bias") ? 0.1f : 0.02f);
  }
  return {};
}

TensorStream random_tensor(const TensorRow& row, uint64_t seed, ThreadPool& pool) {
  const bool packed = row.kind == TensorKind::kCodes || row.kind == TensorKind::kScales;
  TensorStream tensor{row.name, packed ? DType::kU8 : DType::kBF16, row.shape, {}};
  const uint64_t size = tensor.size_bytes();
  tensor.produce = [size, row, seed, &pool](Emit emit) {
    const Fill fill = filling(row, tensor_seed(seed, row.name));
    std::vector<uint8_t> piece(std::min<uint64_t>(kPieceBytes, size));
    for (uint64_t offset = 0; offset < size; offset += kPieceBytes) {
      const std::span<uint8_t> out =
          std::span(piece).first(std::min<uint64_t>(kPieceBytes, size - offset));
      pool.parallel_for(
          static_cast<int>((out.size() + kTaskBytes - 1) / kTaskBytes), [&](int task, int) {
            const size_t begin = static_cast<size_t>(task) * kTaskBytes;
            fill(offset + begin, out.subspan(begin, std::min(kTaskBytes, out.size() - begin)));
          });
      emit(out);
    }
  };
  return tensor;
}

std::string generation_config(const Tokenizer& tokenizer) {
  std::string text = "{\n  \"do_sample\": true";
  std::string stops;
  for (const char* name : {"<|return|>", "<|endoftext|>", "<|call|>"}) {
    if (const std::optional<TokenId> id = tokenizer.special(name))
      stops += concat(stops.empty() ? "" : ", ", *id);
  }
  if (!stops.empty()) text += concat(",\n  \"eos_token_id\": [", stops, "]");
  if (const std::optional<TokenId> id = tokenizer.special("<|startoftext|>"))
    text += concat(",\n  \"bos_token_id\": ", *id);
  if (const std::optional<TokenId> id = tokenizer.special("<|endoftext|>"))
    text += concat(",\n  \"pad_token_id\": ", *id);
  return text + "\n}\n";
}

// What transformers' AutoTokenizer asks for besides tokenizer.json.
std::string tokenizer_config(const Tokenizer& tokenizer) {
  std::string text = "{\n";
  const std::pair<const char*, const char*> roles[] = {{"bos_token", "<|startoftext|>"},
                                                       {"eos_token", "<|return|>"},
                                                       {"pad_token", "<|endoftext|>"}};
  for (const auto& [role, name] : roles) {
    if (tokenizer.special(name)) text += concat("  \"", role, "\": ", json::quote(name), ",\n");
  }
  return text +
         "  \"clean_up_tokenization_spaces\": false,\n"
         "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n";
}

std::string tokenizer_text(const std::optional<fs::path>& path, int64_t vocab_size) {
  if (!path) return byte_tokenizer_json(vocab_size);
  const MappedFile file(*path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

WriteSummary synthesize_checkpoint(const GptOssConfig& shapes, const fs::path& out,
                                   TargetLayout layout,
                                   const std::optional<fs::path>& tokenizer_path, uint64_t seed,
                                   const Progress& progress, const WriteOptions& options) {
  MOXIE_CHECK(layout != TargetLayout::kBf16, kUnsupported,
              "random checkpoints are made in MXFP4, --layout hf or original; `moxie convert "
              "--layout bf16` makes bf16 of one");
  const std::vector<TensorRow> table = tensor_table(shapes);
  const std::string source = tokenizer_path ? tokenizer_path->string() : "the byte tokenizer";
  const std::string text = tokenizer_text(tokenizer_path, shapes.vocab_size);
  MOXIE_CHECK(text.find_first_not_of(" \t\r\n") != std::string::npos &&
                  text[text.find_first_not_of(" \t\r\n")] == '{',
              kUnsupported, source,
              " is no tokenizer.json; tools/make-tokenizer-json makes one of a rank file");
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(text, source);
  MOXIE_CHECK(tokenizer.vocab_size() <= shapes.vocab_size, kInvalidArgument, source,
              " has ids up to ", tokenizer.vocab_size() - 1, ", the model has only ",
              shapes.vocab_size, " embedding rows");

  GptOssConfig config = shapes;
  config.quantized = true;
  config.eos_token_id = tokenizer.special("<|return|>");
  config.pad_token_id = tokenizer.special("<|endoftext|>");

  StagedFolder folder(out, {});
  ThreadPool pool(options.num_threads > 0 ? options.num_threads : available_cpus());
  std::vector<TensorStream> tensors;
  for (const TensorRow& row : table) tensors.push_back(random_tensor(row, seed, pool));
  if (layout == TargetLayout::kOriginal) {
    tensors = in_original_layout(std::move(tensors), table);
    folder.write_file("config.json", original_config(config, "this shape"));
    folder.write_file("dtypes.json", original_dtypes(tensors));
  } else {
    folder.write_file("config.json", write_config(config, CheckpointLayout::kHuggingFace));
  }
  folder.write_file("tokenizer.json", text);
  folder.write_file("tokenizer_config.json", tokenizer_config(tokenizer));
  folder.write_file("generation_config.json", generation_config(tokenizer));
  return finish_folder(folder, std::move(tensors), layout, {}, progress, options);
}

}  // namespace moxie
