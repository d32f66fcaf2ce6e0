// Hashes for the tokenizer's tables.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace moxie::bpe {

// The two halves of the 128-bit product folded: every bit of the inputs reaches every bit.
inline uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline constexpr uint64_t kHashFactor = 0x9e3779b97f4a7c15u;

// Both depend on the machine's byte order; never stored.

// REQUIRES: at most 8 bytes. Different for different bytes of one length.
inline uint64_t pack_bytes(std::string_view bytes) {
  const auto load4 = [](const char* p) {
    uint32_t value;
    std::memcpy(&value, p, 4);
    return uint64_t{value};
  };
  const auto load1 = [](const char* p) { return uint64_t{static_cast<uint8_t>(*p)}; };
  const char* p = bytes.data();
  const size_t size = bytes.size();
  if (size >= 4) return load4(p) | load4(p + size - 4) << 32;
  if (size == 0) return 0;
  return load1(p) | load1(p + size / 2) << 8 | load1(p + size - 1) << 16;
}

// REQUIRES: more than 8 bytes.
inline uint64_t hash_bytes(std::string_view bytes) {
  const char* p = bytes.data();
  size_t left = bytes.size();
  uint64_t hash = left * kHashFactor;
  for (; left > 8; left -= 8, p += 8) hash = mix(hash ^ pack_bytes({p, 8}), kHashFactor);
  return mix(hash ^ pack_bytes({p + left - 8, 8}), kHashFactor ^ 0x5851f42d4c957f2du);
}

}  // namespace moxie::bpe
