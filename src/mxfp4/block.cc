#include "mxfp4/block.h"

#include <cstring>
#include <string_view>

#include "base/check.h"

namespace moxie::mxfp4 {
namespace {

constexpr struct {
  ScaleRule rule;
  const char* name;
} kNames[] = {
    {ScaleRule::kRoundUp, "round_up"}, {ScaleRule::kFloor, "floor"}, {ScaleRule::kEven, "even"}};

void check_row(int64_t k) {
  MOXIE_CHECK(k >= 0 && k % kBlock == 0, kInvalidArgument,
              "a row of MXFP4 must be a multiple of 32 long, got ", k, " values");
}

// encode_block() in loops that compilers vectorise: first the codes, one a byte, then the packing.
void encode_block_two_passes(const float* values, ScaleRule rule, uint8_t* codes, uint8_t* scale) {
  *scale = scale_from_amax(block_amax(values), rule);
  const float factor = quantisation_factor(*scale, rule);
  uint32_t unpacked[kBlock];
  for (int t = 0; t < kBlock; ++t) unpacked[t] = encode_element(values[t], factor);
  for (int i = 0; i < kBlockBytes; ++i)
    codes[i] = static_cast<uint8_t>(unpacked[2 * i] | (unpacked[2 * i + 1] << 4));
}

// Each block looks its codes up in a table of its 16 possible values.
template <class T>
void decode_row_by_table(const uint8_t* codes, const uint8_t* scales, int64_t k, T* values) {
  check_row(k);
  for (int64_t block = 0; block < k / kBlock; ++block) {
    T table[16];
    for (int code = 0; code < 16; ++code)
      table[code] = decode_element<T>(static_cast<uint8_t>(code), scales[block]);
    const uint8_t* packed = codes + block * kBlockBytes;
    T* out = values + block * kBlock;
    for (int i = 0; i < kBlockBytes; ++i) {
      out[2 * i] = table[packed[i] & 15];
      out[2 * i + 1] = table[packed[i] >> 4];
    }
  }
}

}  // namespace

std::optional<ScaleRule> parse_scale_rule(std::string_view text) {
  for (const auto& known : kNames)
    if (text == known.name) return known.rule;
  return std::nullopt;
}

const char* name(ScaleRule rule) {
  for (const auto& known : kNames)
    if (rule == known.rule) return known.name;
  return "unknown scale rule";
}

void encode_row(const float* values, int64_t k, ScaleRule rule, uint8_t* codes, uint8_t* scales) {
  check_row(k);
  for (int64_t block = 0; block < k / kBlock; ++block)
    encode_block_two_passes(values + block * kBlock, rule, codes + block * kBlockBytes,
                            scales + block);
}

void encode_row(const bf16* values, int64_t k, ScaleRule rule, uint8_t* codes, uint8_t* scales) {
  check_row(k);
  for (int64_t block = 0; block < k / kBlock; ++block) {
    float widened[kBlock];
    for (int t = 0; t < kBlock; ++t) widened[t] = to_float(values[block * kBlock + t]);
    encode_block_two_passes(widened, rule, codes + block * kBlockBytes, scales + block);
  }
}

void decode_row(const uint8_t* codes, const uint8_t* scales, int64_t k, float* values) {
  decode_row_by_table(codes, scales, k, values);
}
void decode_row(const uint8_t* codes, const uint8_t* scales, int64_t k, bf16* values) {
  decode_row_by_table(codes, scales, k, values);
}

uint64_t count_zero_codes(std::span<const uint8_t> codes) {
  constexpr uint64_t kOnes = 0x1111111111111111u, kLowNibbles = 0x0f0f0f0f0f0f0f0fu;
  uint64_t nonzero = 0;
  size_t at = 0;
  // 15 words are as many as a nibble can count; their sums are folded to bytes, then to 16 bits.
  constexpr size_t kStride = 15 * 8;
  for (; at + kStride <= codes.size(); at += kStride) {
    uint64_t nibbles = 0;
    for (size_t i = 0; i < kStride; i += 8) {
      uint64_t word = 0;
      std::memcpy(&word, codes.data() + at + i, sizeof word);
      const uint64_t magnitudes = word & (7 * kOnes);
      nibbles += ((magnitudes + 7 * kOnes) >> 3) & kOnes;  // 1 where a magnitude is not 0
    }
    const uint64_t in_bytes = (nibbles & kLowNibbles) + ((nibbles >> 4) & kLowNibbles);
    const uint64_t in_words =
        (in_bytes & 0x00ff00ff00ff00ffu) + ((in_bytes >> 8) & 0x00ff00ff00ff00ffu);
    nonzero += (in_words * 0x0001000100010001u) >> 48;
  }
  for (; at < codes.size(); ++at)
    nonzero += static_cast<uint64_t>((codes[at] & 7) != 0) + ((codes[at] & 0x70) != 0);
  return 2 * codes.size() - nonzero;
}

}  // namespace moxie::mxfp4
