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

// Depends on the machine's byte order; never stored.
inline uint64_t hash_bytes(std::string_view bytes) {
  const auto load = [](const char* p, size_t n) {
    uint64_t value = 0;
    std::memcpy(&value, p, n);
    return value;
  };
  const char* p = bytes.data();
  size_t left = bytes.size();
  uint64_t hash = left * kHashFactor;
  for (; left > 8; left -= 8, p += 8) hash = mix(hash ^ load(p, 8), kHashFactor);
  uint64_t last = 0;
  if (left == 8) {
    last = load(p, 8);
  } else if (left >= 4) {
    last = load(p, 4) | load(p + left - 4, 4) << 32;
  } else if (left > 0) {
    last = load(p, 1) | load(p + left / 2, 1) << 8 | load(p + left - 1, 1) << 16;
  }
  return mix(hash ^ last, kHashFactor ^ 0x5851f42d4c957f2du);
}

}  // namespace moxie::bpe
