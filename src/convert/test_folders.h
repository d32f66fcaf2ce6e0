// For the tests of this folder: scratch folders, and small random checkpoints in any form.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace moxie {

// An empty folder of its own, removed with all it holds.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  // Names of everything in it, hidden ones too, in order.
  std::vector<std::string> entries() const;

 private:
  std::filesystem::path path_;
};

// A tensor to be written: values are what the tests compare.
struct PlainTensor {
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
  friend bool operator==(const PlainTensor&, const PlainTensor&) = default;
};
using PlainTensors = std::map<std::string, PlainTensor>;

GptOssConfig small_config();  // 12 layers, so that names and numbers sort differently

// Random tensors under Hugging Face's names; experts packed, or dequantised in `dequantized_dtype`.
PlainTensors random_packed(const GptOssConfig& config, uint64_t seed);
PlainTensors random_dequantized(const GptOssConfig& config, uint64_t seed,
                                DType dequantized_dtype = DType::kBF16);

// BF16 (rounded) or F32.
PlainTensor plain_tensor(DType dtype, std::vector<int64_t> shape, const std::vector<float>& values);
std::vector<float> values_of(const PlainTensor& tensor);  // BF16, F16 or F32

// Makes the folder with config.json, one file of tensors, and a few companions.
void write_folder(const std::filesystem::path& folder, const GptOssConfig& config,
                  const PlainTensors& tensors);
PlainTensors read_folder(const std::filesystem::path& folder);

void write_text(const std::filesystem::path& path, const std::string& text);
std::string read_text(const std::filesystem::path& path);
// Every file of a folder with its bytes.
std::map<std::string, std::string> snapshot(const std::filesystem::path& folder);

// The sentence of the moxie::Error that `action` throws; "" if it throws none.
std::string error_of(const std::function<void()>& action);

}  // namespace moxie
