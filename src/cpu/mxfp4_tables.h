// The 16 codes of E2M1 times each of the 256 scales, as instruction sets like to look them up.
// 255 (NaN) and the clamping of 253 and 254 need no code of their own this way.
#pragma once

#include <cstdint>

namespace moxie::cpu {

// [scale][i], i = 0 .. 31: bf16 bits of code i % 16. Twice, so that bit 4 of an index is ignored.
struct alignas(64) Mxfp4Bf16Table {
  uint16_t bits[256][32];
};
// [scale][code], float32.
struct alignas(64) Mxfp4FloatTable {
  float values[256][16];
};
// [scale][code]: low bytes of the bf16 bits, then high bytes.
struct alignas(64) Mxfp4ByteTable {
  uint8_t bytes[256][2][16];
};

extern const Mxfp4Bf16Table kMxfp4Bf16;
extern const Mxfp4FloatTable kMxfp4Float;
extern const Mxfp4ByteTable kMxfp4Bytes;

}  // namespace moxie::cpu
