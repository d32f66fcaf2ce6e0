#include "convert/test_folders.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "checkpoint/safetensors.h"
#include "convert/repack.h"
#include "convert/tensor_table.h"
#include "ops/reference/random.h"

namespace moxie {

namespace fs = std::filesystem;

ScratchFolder::ScratchFolder() {
  // In memory where that is possible: every test syncs its files to the disk.
  const bool memory = access("/dev/shm", W_OK | X_OK) == 0;
  const fs::path parent = memory ? fs::path("/dev/shm") : fs::temp_directory_path();
  std::string name = (parent / "moxie_convert_XXXXXX").string();
  MOXIE_CHECK_INTERNAL(mkdtemp(name.data()) != nullptr);
  path_ = fs::canonical(name);
}

ScratchFolder::~ScratchFolder() {
  std::error_code error;
  fs::remove_all(path_, error);
}

std::vector<std::string> ScratchFolder::entries() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path_))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

GptOssConfig small_config() {
  GptOssConfig config;
  config.num_layers = 12;
  config.num_experts = 3;
  config.experts_per_token = 2;
  config.hidden_size = 64;
  config.intermediate_size = 64;  // down_proj is square: only values tell its axes
  config.vocab_size = 300;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.sliding_window = 8;
  config.max_position = 131072;
  config.eos_token_id = 1;  // as write_folder()'s generation_config.json
  for (int layer = 0; layer < 12; ++layer) config.layer_is_sliding.push_back(layer % 2 == 0);
  return config;
}

PlainTensor plain_tensor(DType dtype, std::vector<int64_t> shape,
                         const std::vector<float>& values) {
  PlainTensor tensor{dtype, std::move(shape), {}};
  tensor.bytes.resize(values.size() * size_bytes(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(tensor.bytes.data() + 4 * i, &values[i], 4);
      continue;
    }
    const uint16_t bits = to_bf16(values[i]).bits;
    std::memcpy(tensor.bytes.data() + 2 * i, &bits, 2);
  }
  return tensor;
}

std::vector<float> values_of(const PlainTensor& tensor) {
  std::vector<float> values(tensor.bytes.size() / size_bytes(tensor.dtype));
  widen(tensor.bytes.data(),
        tensor.dtype == DType::kF32   ? SourceElement::kF32
        : tensor.dtype == DType::kF16 ? SourceElement::kF16
                                      : SourceElement::kBF16,
        static_cast<int64_t>(values.size()), values.data());
  return values;
}

namespace {

int64_t count(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

PlainTensor random_tensor(DType dtype, const std::vector<int64_t>& shape, uint64_t seed) {
  const auto elements = static_cast<size_t>(count(shape));
  if (dtype == DType::kF16) {
    PlainTensor tensor{dtype, shape, std::vector<uint8_t>(2 * elements)};
    for (size_t i = 0; i < elements; ++i) {
      // Any sign and mantissa, exponents of 2^-5 to 2^2.
      const uint64_t random = random_bits(seed, i);
      const uint64_t bits = (random & 0x83ffu) | ((10 + ((random >> 16) & 7u)) << 10);
      tensor.bytes[2 * i] = static_cast<uint8_t>(bits);
      tensor.bytes[2 * i + 1] = static_cast<uint8_t>(bits >> 8);
    }
    return tensor;
  }
  if (dtype != DType::kU8) {
    std::vector<float> values(elements);
    fill_normal(std::span(values), seed);
    return plain_tensor(dtype, shape, values);
  }
  PlainTensor tensor{dtype, shape, std::vector<uint8_t>(elements)};
  for (size_t i = 0; i < elements; ++i)
    tensor.bytes[i] = static_cast<uint8_t>(random_bits(seed, i) >> 40);
  return tensor;
}

}  // namespace

PlainTensors random_packed(const GptOssConfig& config, uint64_t seed) {
  PlainTensors tensors;
  for (const TensorRow& row : tensor_table(config)) {
    const bool packed = row.kind == TensorKind::kCodes || row.kind == TensorKind::kScales;
    PlainTensor tensor = random_tensor(packed ? DType::kU8 : DType::kBF16, row.shape, ++seed);
    if (row.kind == TensorKind::kScales)
      for (uint8_t& scale : tensor.bytes) scale = static_cast<uint8_t>(110 + scale % 20);
    tensors[row.name] = std::move(tensor);
  }
  return tensors;
}

PlainTensors random_dequantized(const GptOssConfig& config, uint64_t seed,
                                DType dequantized_dtype) {
  PlainTensors tensors;
  for (const TensorRow& row : tensor_table(config)) {
    if (row.kind == TensorKind::kScales) continue;
    if (row.kind == TensorKind::kCodes)
      tensors[dequantized_name(row)] =
          random_tensor(dequantized_dtype, dequantized_shape(row), ++seed);
    else
      tensors[row.name] = random_tensor(DType::kBF16, row.shape, ++seed);
  }
  return tensors;
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  MOXIE_CHECK_INTERNAL(file.good());
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  MOXIE_CHECK_INTERNAL(file.good());
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

void write_folder(const fs::path& folder, const GptOssConfig& config, const PlainTensors& tensors) {
  fs::create_directories(folder);
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& [name, tensor] : tensors) entries.push_back({name, tensor.dtype, tensor.shape});
  SafetensorsWriter writer(folder / "model.safetensors", std::move(entries), {{"format", "pt"}});
  for (const auto& [name, tensor] : tensors) writer.write(tensor.bytes);
  writer.finish();
  write_text(folder / "config.json", write_config(config, CheckpointLayout::kHuggingFace));
  write_text(folder / "tokenizer.json", "{\"not\": \"looked at\"}");
  write_text(folder / "generation_config.json", "{\"eos_token_id\": [1, 2]}");
  write_text(folder / "notes.txt", "stays behind");
}

PlainTensors read_folder(const fs::path& folder) {
  const TensorFolder files(folder);
  PlainTensors tensors;
  for (const auto& [name, tensor] : files.tensors())
    tensors[name] = {tensor->dtype, tensor->shape, {tensor->bytes.begin(), tensor->bytes.end()}};
  return tensors;
}

std::map<std::string, std::string> snapshot(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[entry.path().lexically_relative(folder).string()] = read_text(entry.path());
  return files;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace moxie
