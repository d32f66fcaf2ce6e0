// Reading UTF-8 one character at a time, well-formed or not.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moxie::bpe {

enum class Utf8Status : uint8_t {
  kValid,
  kInvalid,    // `length` bytes are a maximal invalid piece: the start of a character, cut by what
               // follows
  kTruncated,  // the text ends inside what may still become a character; `length` reaches the end
};

struct Utf8Char {
  uint32_t code_point;  // meaningful if kValid
  uint8_t length;       // 1 .. 4
  Utf8Status status;
};

// REQUIRES: p < end. Well-formed as table 3-7 of the Unicode Standard says: no surrogates, nothing
// overlong, nothing past U+10FFFF.
inline Utf8Char read_utf8(const char* p, const char* end) {
  const auto byte = [p](int i) { return static_cast<uint8_t>(p[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, Utf8Status::kValid};
  if (lead < 0xc2 || lead > 0xf4) return {0, 1, Utf8Status::kInvalid};
  const int length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // Only the second byte has a range of its own, and only behind four leads.
  const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  uint32_t code_point = lead & (0x7fu >> length);
  for (int i = 1; i < length; ++i) {
    if (p + i == end) return {0, static_cast<uint8_t>(i), Utf8Status::kTruncated};
    const bool continues = i == 1 ? byte(1) >= low && byte(1) <= high : (byte(i) & 0xc0) == 0x80;
    if (!continues) return {0, static_cast<uint8_t>(i), Utf8Status::kInvalid};
    code_point = code_point << 6 | (byte(i) & 0x3fu);
  }
  return {code_point, static_cast<uint8_t>(length), Utf8Status::kValid};
}

}  // namespace moxie::bpe
