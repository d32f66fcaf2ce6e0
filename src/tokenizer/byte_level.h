// The printable characters that stand for bytes in a tokenizer.json: bytes that Latin-1 prints
// stand for themselves, the other 68 in rising order for U+0100, U+0101, ...
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "tokenizer/utf8.h"

namespace moxie::bpe {

inline constexpr uint32_t kByteLevelEnd = 0x100 + 68;
inline constexpr uint16_t kNotAByte = 256;

inline constexpr std::array<uint16_t, kByteLevelEnd> kByteOfCharacter = [] {
  std::array<uint16_t, kByteLevelEnd> bytes{};
  uint32_t next_free = 0x100;
  for (auto& byte : bytes) byte = kNotAByte;
  for (uint16_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    bytes[printable ? byte : next_free++] = byte;
  }
  return bytes;
}();

// Appends the bytes that `spelled` stands for; false if it has a character that stands for none.
inline bool append_bytes_of(std::string_view spelled, std::string& out) {
  const char* p = spelled.data();
  const char* const end = p + spelled.size();
  while (p < end) {
    const Utf8Char read = read_utf8(p, end);
    if (read.status != Utf8Status::kValid || read.code_point >= kByteLevelEnd) return false;
    const uint16_t byte = kByteOfCharacter[read.code_point];
    if (byte == kNotAByte) return false;
    out += static_cast<char>(byte);
    p += read.length;
  }
  return true;
}

}  // namespace moxie::bpe
