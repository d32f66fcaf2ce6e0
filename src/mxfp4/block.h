// MXFP4 blocks: 32 consecutive elements along the reduction dimension share one E8M0 scale.
//
// Packing of a block's codes in 16 bytes: element t sits in byte t / 2, low nibble when t is even.
// A matrix [n, k] stores codes [n, k/32, 16] and scales [n, k/32].
//
// The constexpr functions run on host and device alike and say what is right; the row functions
// do the same for whole rows on the host, several times faster.
//
// Source: OCP Microscaling Formats v1.0; gpt_oss/torch/weights.py (nibble order); triton_kernels
// numerics (kRoundUp, kFloor); torchao mx_formats (kEven).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/bf16.h"
#include "mxfp4/e2m1.h"
#include "mxfp4/e8m0.h"

namespace moxie::mxfp4 {

inline constexpr int kBlock = 32;       // elements
inline constexpr int kBlockBytes = 16;  // of codes

// How a block's scale follows from its largest magnitude amax:
//   kRoundUp  2^ceil(log2(amax / 6)): nothing is clipped; what gpt-oss was quantised with
//   kFloor    2^(floor(log2 amax) - 2): OCP's rule; clips amax in (6, 8) * scale
//   kEven     amax rounded to one mantissa bit, then as kFloor; close to the least error
enum class ScaleRule : uint8_t { kRoundUp, kFloor, kEven };

std::optional<ScaleRule> parse_scale_rule(std::string_view name);  // "round_up", "floor", "even"
const char* name(ScaleRule rule);

// The scale byte of a block whose largest magnitude is `amax` (not negative). Finite amax give
// 0 .. 253, infinity gives 255. NaN gives 255, but 0 under kRoundUp, whose integer addition
// overflows in triton.
MOXIE_HOST_DEVICE constexpr uint8_t scale_from_amax(float amax, ScaleRule rule) {
  constexpr uint32_t kExponentBits = 0x7f800000u;
  const uint32_t amax_bits = __builtin_bit_cast(uint32_t, amax);
  if (amax_bits > kExponentBits) return rule == ScaleRule::kRoundUp ? 0 : kScaleNaN;
  if (amax_bits == kExponentBits) return kScaleNaN;
  if (rule == ScaleRule::kRoundUp) {
    // Up to the next power of two: the addition carries into the exponent unless the mantissa is 0.
    const uint32_t bits = __builtin_bit_cast(uint32_t, amax / 6.0f);
    return static_cast<uint8_t>(((bits + 0x007fffffu) & kExponentBits) >> 23);
  }
  if (rule == ScaleRule::kFloor) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, amax * 0.25f);
    return static_cast<uint8_t>((bits & kExponentBits) >> 23);
  }
  // Half a unit of the one mantissa bit that is kept carries into the exponent from 1.75 on. Here
  // the exponent may pass the largest finite one: 255 - 2 is a scale like others.
  const uint32_t exponent = (amax_bits + 0x00200000u) >> 23;
  return static_cast<uint8_t>(exponent < 2 ? 0 : exponent - 2);
}

// What the elements of a block with this scale are multiplied by before rounding: 2^-(scale - 127).
// It is 0 for 255, and for 0 under kRoundUp and kFloor, which flush such blocks to zero.
MOXIE_HOST_DEVICE constexpr float quantisation_factor(uint8_t scale, ScaleRule rule) {
  if (scale == kScaleNaN || (scale == 0 && rule != ScaleRule::kEven)) return 0.0f;
  return e8m0_reciprocal(scale);
}

// Infinity and NaN become 7, or 15 with a minus sign, whatever the factor.
MOXIE_HOST_DEVICE constexpr uint8_t encode_element(float value, float factor) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  const uint8_t sign = static_cast<uint8_t>((bits >> 28) & 8u);
  return finite ? e2m1_from_float(value * factor) : static_cast<uint8_t>(sign | 7u);
}

// The largest magnitude of a block. NaN is passed over, as the GPU's maximum does, unless all
// elements are NaN. Callers that must not lose a NaN look for it first.
MOXIE_HOST_DEVICE constexpr float block_amax(const float* values) {
  // Magnitudes order like their bits; NaN is above all, so it is replaced by nothing.
  uint32_t amax = 0;
  bool any_number = false;
  for (int t = 0; t < kBlock; ++t) {
    const uint32_t magnitude = __builtin_bit_cast(uint32_t, values[t]) & 0x7fffffffu;
    const bool number = magnitude <= 0x7f800000u;
    any_number |= number;
    if (number && magnitude > amax) amax = magnitude;
  }
  return __builtin_bit_cast(float, any_number ? amax : 0x7fc00000u);
}

// Encodes 32 values into 16 bytes of codes and a scale. Elements are multiplied by
// quantisation_factor() and rounded by e2m1_from_float().
MOXIE_HOST_DEVICE constexpr void encode_block(const float* values, ScaleRule rule, uint8_t* codes,
                                              uint8_t* scale) {
  *scale = scale_from_amax(block_amax(values), rule);
  const float factor = quantisation_factor(*scale, rule);
  for (int i = 0; i < kBlockBytes; ++i) {
    const uint8_t low = encode_element(values[2 * i], factor);
    const uint8_t high = encode_element(values[2 * i + 1], factor);
    codes[i] = static_cast<uint8_t>(low | (high << 4));
  }
}

// The code of element t of a block.
MOXIE_HOST_DEVICE constexpr uint8_t code_at(const uint8_t* codes, int t) {
  return static_cast<uint8_t>((codes[t / 2] >> (4 * (t & 1))) & 15u);
}

// Whether a code times its scale is 2^128 or more, past the largest finite float.
inline constexpr uint8_t kFirstScaleThatMayOverflow = 253;
MOXIE_HOST_DEVICE constexpr bool overflows(uint8_t code, uint8_t scale) {
  return (scale == 253 && (code & 7) >= 6) || (scale == 254 && (code & 7) >= 4);
}

// A code times its scale, exact in the target; products of 2^128 and more (scale 253 and 254 only)
// are clamped to the largest finite value of the target, and scale 255 gives NaN.
template <class T>
MOXIE_HOST_DEVICE constexpr T decode_element(uint8_t code, uint8_t scale);

template <>
MOXIE_HOST_DEVICE constexpr float decode_element<float>(uint8_t code, uint8_t scale) {
  if (scale == kScaleNaN) return e8m0_to_float(scale);
  if (overflows(code, scale))
    return __builtin_bit_cast(float, (code & 8) != 0 ? 0xff7fffffu : 0x7f7fffffu);
  return e2m1_to_float(code) * e8m0_to_float(scale);
}

template <>
MOXIE_HOST_DEVICE constexpr bf16 decode_element<bf16>(uint8_t code, uint8_t scale) {
  // Cutting off the lower half is exact, and turns the clamped value into bf16's largest finite.
  const uint32_t bits = __builtin_bit_cast(uint32_t, decode_element<float>(code, scale));
  return bf16{static_cast<uint16_t>(bits >> 16)};
}

// Decodes to 32 values by decode_element().
MOXIE_HOST_DEVICE constexpr void decode_block(const uint8_t* codes, uint8_t scale, float* values) {
  for (int t = 0; t < kBlock; ++t) values[t] = decode_element<float>(code_at(codes, t), scale);
}
MOXIE_HOST_DEVICE constexpr void decode_block(const uint8_t* codes, uint8_t scale, bf16* values) {
  for (int t = 0; t < kBlock; ++t) values[t] = decode_element<bf16>(code_at(codes, t), scale);
}

// Whole rows of k values: codes [k/32, 16], scales [k/32]; k = 0 is allowed. Bit for bit the block
// functions' results. Throws Error(kInvalidArgument) if k % 32 != 0.
void encode_row(const float* values, int64_t k, ScaleRule rule, uint8_t* codes, uint8_t* scales);
void encode_row(const bf16* values, int64_t k, ScaleRule rule, uint8_t* codes, uint8_t* scales);
void decode_row(const uint8_t* codes, const uint8_t* scales, int64_t k, float* values);
void decode_row(const uint8_t* codes, const uint8_t* scales, int64_t k, bf16* values);

// How many of the packed codes mean zero, of either sign.
uint64_t count_zero_codes(std::span<const uint8_t> codes);

}  // namespace moxie::mxfp4
