// MXFP4 blocks: 32 consecutive elements along the reduction dimension share one E8M0 scale.
//
// Packing of a block's codes in 16 bytes: element t sits in byte t / 2, low nibble when t is even.
// A matrix [n, k] stores codes [n, k/32, 16] and scales [n, k/32].
// Source: OCP Microscaling Formats v1.0; gpt_oss/torch/weights.py (nibble order); triton_kernels
// numerics (ROUND_UP).
#pragma once

#include <cstdint>
#include <optional>
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

// The scale byte of a block whose largest magnitude is `amax` (not negative, maybe infinite or
// NaN).
MOXIE_HOST_DEVICE constexpr uint8_t scale_from_amax(float amax, ScaleRule rule);

// Encodes 32 values. Elements are multiplied by 2^-e, e the scale's exponent, then rounded by
// e2m1_from_float.
MOXIE_HOST_DEVICE constexpr void encode_block(const float* values, ScaleRule rule, uint8_t* codes,
                                              uint8_t* scale);

// Decodes to 32 values, clamped to the target's largest finite value; scale 255 gives NaN.
MOXIE_HOST_DEVICE constexpr void decode_block(const uint8_t* codes, uint8_t scale, float* values);
MOXIE_HOST_DEVICE constexpr void decode_block(const uint8_t* codes, uint8_t scale, bf16* values);

}  // namespace moxie::mxfp4
