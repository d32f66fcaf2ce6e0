// What tests and benchmarks of GPU kernels share. Test code only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/bf16.h"

namespace moxie::hopper {

// Why kernels of this folder cannot run here, or nothing.
inline std::string why_no_hopper() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return std::string("no GPU: ") + cudaGetErrorString(error);
  cudaDeviceProp properties{};
  if (count == 0 || cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return "no GPU";
  if (properties.major != 9)
    return std::string(properties.name) + " has compute capability " +
           std::to_string(properties.major) + "." + std::to_string(properties.minor) +
           "; these kernels need 9.0";
  return "";
}

inline std::vector<uint8_t> random_bytes(size_t size, unsigned seed, int low, int high) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> byte(low, high);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(byte(random));
  return bytes;
}

inline std::vector<bf16> random_bf16(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0, 1);
  std::vector<bf16> values(size);
  for (bf16& v : values) v = to_bf16(value(random));
  return values;
}

}  // namespace moxie::hopper
