// Any bytes as a safetensors header over a small data area: refused with an Error, or views that
// tile the data exactly.
#include <cstdlib>
#include <vector>

#include "checkpoint/safetensors.h"
#include "moxie/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* input, size_t size) {
  // The first two bytes choose how much data there is.
  if (size < 2) return 0;
  static const std::vector<uint8_t> kData(65535);
  const std::span<const uint8_t> data(kData.data(), input[0] + 256u * input[1]);
  const std::string_view header(reinterpret_cast<const char*>(input) + 2, size - 2);
  std::map<std::string, std::string> metadata;
  try {
    const auto tensors = moxie::parse_safetensors_header(header, data, "fuzz", &metadata);
    size_t total = 0;
    for (const auto& [name, tensor] : tensors) {
      const auto elements = static_cast<size_t>(tensor.num_elements());
      if (tensor.bytes.size() != elements * moxie::size_bytes(tensor.dtype)) std::abort();
      if (tensor.bytes.data() < data.data()) std::abort();
      if (tensor.bytes.data() + tensor.bytes.size() > data.data() + data.size()) std::abort();
      total += tensor.bytes.size();
    }
    if (total != data.size()) std::abort();
  } catch (const moxie::Error& error) {
    if (error.code() == moxie::ErrorCode::kInternal || *error.what() == '\0') std::abort();
  }
  return 0;
}
