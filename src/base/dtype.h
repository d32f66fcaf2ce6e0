// Element types of tensors in files and in memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moxie {

enum class DType : uint8_t {
  kF32,
  kBF16,
  kU8,
  kF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU16,
  kU32,
  kU64,
  kBool,
  kF8E4M3,
  kF8E5M2,
  kOther
};

size_t size_bytes(DType dtype);  // bytes of one element; 0 for kOther
const char* name(DType dtype);   // as safetensors spells it: "BF16", "U8", ...

}  // namespace moxie
