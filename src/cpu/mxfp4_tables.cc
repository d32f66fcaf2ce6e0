#include "cpu/mxfp4_tables.h"

#include "mxfp4/block.h"

namespace moxie::cpu {
namespace {

constexpr uint16_t bits_of(int scale, int code) {
  return mxfp4::decode_element<bf16>(static_cast<uint8_t>(code), static_cast<uint8_t>(scale)).bits;
}

constexpr Mxfp4Bf16Table make_bf16() {
  Mxfp4Bf16Table table{};
  for (int scale = 0; scale < 256; ++scale)
    for (int i = 0; i < 32; ++i) table.bits[scale][i] = bits_of(scale, i % 16);
  return table;
}

constexpr Mxfp4FloatTable make_float() {
  Mxfp4FloatTable table{};
  for (int scale = 0; scale < 256; ++scale)
    for (int code = 0; code < 16; ++code)
      table.values[scale][code] = to_float(bf16{bits_of(scale, code)});
  return table;
}

constexpr Mxfp4ByteTable make_bytes() {
  Mxfp4ByteTable table{};
  for (int scale = 0; scale < 256; ++scale) {
    for (int code = 0; code < 16; ++code) {
      table.bytes[scale][0][code] = static_cast<uint8_t>(bits_of(scale, code));
      table.bytes[scale][1][code] = static_cast<uint8_t>(bits_of(scale, code) >> 8);
    }
  }
  return table;
}

}  // namespace

constinit const Mxfp4Bf16Table kMxfp4Bf16 = make_bf16();
constinit const Mxfp4FloatTable kMxfp4Float = make_float();
constinit const Mxfp4ByteTable kMxfp4Bytes = make_bytes();

}  // namespace moxie::cpu
